"""Every hyperparameter of the core as nested frozen dataclasses. Imports no torch."""

from arae_core.settings.sections import *  # noqa: F403
