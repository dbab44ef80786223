"""Every hyperparameter of the core, declared once each, as nested frozen dataclasses. Imports no torch."""

from arae_core.settings.root import Settings
from arae_core.settings.sections import (
    KINDS,
    MOST_CONTRAST,
    NORMALIZED,
    TOKENIZERS,
    ClassifierSettings,
    CodeSettings,
    CriticSettings,
    DecoderSettings,
    EncoderSettings,
    GeneratorSettings,
    HeadSettings,
    PriorSettings,
    TrainedSection,
    VocabularySettings,
)
from arae_core.settings.tree import flatten, with_settings

__all__ = [
    "KINDS",
    "MOST_CONTRAST",
    "NORMALIZED",
    "TOKENIZERS",
    "ClassifierSettings",
    "CodeSettings",
    "CriticSettings",
    "DecoderSettings",
    "EncoderSettings",
    "GeneratorSettings",
    "HeadSettings",
    "PriorSettings",
    "Settings",
    "TrainedSection",
    "VocabularySettings",
    "flatten",
    "with_settings",
]
