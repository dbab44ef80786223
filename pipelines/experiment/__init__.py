"""Experiments: settings, presets, and the environment of a run."""
