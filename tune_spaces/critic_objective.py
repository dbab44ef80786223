"""The critic's constraint and its strength, its steps and rate, and its weight in the encoder."""

SPACE = {
    "critic.objective": ("choice", ["wgan-gp", "wgan-clip"]),
    "critic.penalty": ("loguniform", 1e-1, 1e1),
    "critic.clip": ("loguniform", 5e-3, 1e-1),
    "critic.steps": ("randint", 1, 10),
    "critic.learning_rate": ("loguniform", 1e-5, 1e-3),
    "encoder.adversarial_weight": ("loguniform", 1e-2, 1e1),
}
