"""The four learning rates: a first look at new data, with trials that all take equally long."""

SPACE = {
    "encoder.learning_rate": ("loguniform", 3e-4, 3e-3),
    "decoder.learning_rate": ("loguniform", 3e-4, 3e-3),
    "generator.learning_rate": ("loguniform", 3e-5, 6e-4),
    "critic.learning_rate": ("loguniform", 3e-5, 6e-4),
}
