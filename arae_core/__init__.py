"""Adversarially regularized autoencoders (Zhao et al., ICML 2018): the model and its training.

    import arae_core as arae

    model = arae.fit(open("train.txt").read().splitlines(), iterations=2000)
    print(model.generate(5))
    model.save("my-model")
    model = arae.Model.load("my-model")

The names below are the public API. They are imported on first use, so that settings can be read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arae_core.data.batches import ImageStore, TokenStore
    from arae_core.data.data_spec import ImageSpec, TextSpec
    from arae_core.data.vocabulary import Vocabulary
    from arae_core.model import Model
    from arae_core.priors.fitting import replace_prior
    from arae_core.settings import (
        ClassifierSettings,
        CodeSettings,
        CriticSettings,
        DecoderSettings,
        EncoderSettings,
        GeneratorSettings,
        PriorSettings,
        Settings,
        VocabularySettings,
        with_settings,
    )
    from arae_core.training.checkpoint import export_model, load_checkpoint, save_checkpoint
    from arae_core.training.fit import fit
    from arae_core.training.loop import Report, evaluate_reconstruction, train
    from arae_core.training.state import TrainingState

_MODULES = {
    "arae_core.training.fit": ("fit",),
    "arae_core.model": ("Model",),
    "arae_core.settings": (
        "ClassifierSettings",
        "CodeSettings",
        "CriticSettings",
        "DecoderSettings",
        "EncoderSettings",
        "GeneratorSettings",
        "PriorSettings",
        "Settings",
        "VocabularySettings",
        "with_settings",
    ),
    "arae_core.data.batches": ("ImageStore", "TokenStore"),
    "arae_core.data.data_spec": ("ImageSpec", "TextSpec"),
    "arae_core.data.vocabulary": ("Vocabulary",),
    "arae_core.training.state": ("TrainingState",),
    "arae_core.training.loop": ("Report", "evaluate_reconstruction", "train"),
    "arae_core.training.checkpoint": ("export_model", "load_checkpoint", "save_checkpoint"),
    "arae_core.priors.fitting": ("replace_prior",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ClassifierSettings",
    "CodeSettings",
    "CriticSettings",
    "DecoderSettings",
    "EncoderSettings",
    "GeneratorSettings",
    "ImageSpec",
    "ImageStore",
    "Model",
    "PriorSettings",
    "Report",
    "Settings",
    "TextSpec",
    "TokenStore",
    "TrainingState",
    "Vocabulary",
    "VocabularySettings",
    "evaluate_reconstruction",
    "export_model",
    "fit",
    "load_checkpoint",
    "replace_prior",
    "save_checkpoint",
    "train",
    "with_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'arae_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
