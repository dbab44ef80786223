"""Hyperparameter sweeps: search spaces, trials, schedulers, and Ray Tune around them."""
