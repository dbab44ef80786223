"""Evaluation metrics for generated text and images, for code spaces and for reconstruction."""
