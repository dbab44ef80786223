"""MLflow: runs, the model registry, and the packaged model."""
