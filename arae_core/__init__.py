"""The ARAE algorithm alone: torch, numpy and tokenizers; no Ray, no MLflow, no datasets."""
