"""Sensitive hyperparameters of adversarial training: the balance of the four parts, and the critic's constraint."""

SPACE = {
    "encoder.learning_rate": ("loguniform", 2e-4, 5e-3),
    "decoder.learning_rate": ("loguniform", 2e-4, 5e-3),
    "generator.learning_rate": ("loguniform", 2e-5, 1e-3),
    "critic.learning_rate": ("loguniform", 2e-5, 1e-3),
    "critic.steps": ("choice", [1, 2, 3, 5, 10]),
    "encoder.adversarial_weight": ("loguniform", 1e-2, 1e1),
    "critic.objective": ("choice", ["wgan-gp", "wgan-clip"]),
    "critic.penalty": ("loguniform", 1e-1, 1e1),
    "critic.clip": ("loguniform", 5e-3, 1e-1),
    "code.noise": ("loguniform", 0.02, 0.4),
    "code.noise_decay": ("uniform", 0.99, 1.0),
    "generator.beta1": ("uniform", 0.0, 0.9),
    "critic.beta1": ("uniform", 0.0, 0.9),
}
