"""Hyperparameters of attribute transfer: removing the attribute from the code while keeping the rest."""

SPACE = {
    "encoder.attribute_weight": ("loguniform", 1e-1, 3e1),
    "encoder.adversarial_weight": ("loguniform", 1e-3, 1e0),
    "encoder.marker_ratio": ("choice", [0.0, 4.0, 8.0, 16.0]),
    "encoder.word_dropout": ("uniform", 0.0, 0.4),
    "encoder.weight_decay": ("loguniform", 1e-2, 3e-1),
    "decoder.weight_decay": ("loguniform", 1e-2, 3e-1),
    "classifier.learning_rate": ("loguniform", 1e-4, 1e-2),
    "code.noise": ("loguniform", 1e-2, 3e-1),
    "decoder.conditioning": ("choice", ["embedding", "separate"]),
}
