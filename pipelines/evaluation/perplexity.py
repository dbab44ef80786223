"""The language model of a corpus, trained once and kept beside it; how alike samples are."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from arae_core.data.atomic import replace_file_atomically
from arae_core.evaluation.language_model import LanguageModel, train_language_model
from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.transfer import bleu

RECIPE = 2
"""Counts up when the same sentences make another language model."""

Say = Callable[[str], None]


def told(say: Say) -> Callable[[int, int, float], None]:
    """A language model's progress in words."""
    return lambda epoch, epochs, value: say(f"  epoch {epoch}/{epochs}: {value:.1f}")


def language_model_of(subject: Subject, storage: Path, say: Say) -> LanguageModel:
    """Of the subject's training sentences; the file appears when it is complete. One that an earlier version of this
    program left is replaced."""
    from safetensors.torch import load_file, save_file

    file = storage / "data" / subject.corpus.fingerprint / f"language_model-{RECIPE}.safetensors"
    spec: Any = subject.model.state.spec
    device = subject.model.state.device
    if file.is_file():
        model = LanguageModel(spec)
        with suppress(RuntimeError):  # other weights than a model of today has
            model.load_state_dict(load_file(file))
            return model.to(device)
    say("a language model of the training sentences, once for this corpus")
    train = subject.store("train")
    model = train_language_model(
        train, subject.store("validation"), spec, real=train, device=device, progress=told(say)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file_atomically(file) as partial:
        save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, partial)
    return model


def self_bleu(sentences: Sequence[str]) -> float:
    """How alike sentences are: the mean BLEU of each against all others, in [0, 100] (Zhu et al. 2018)."""
    if len(sentences) < 2:
        return 0.0
    others = [[other] for other in sentences]
    return float(np.mean([bleu([s], others[:i] + others[i + 1 :], one_by_one=True) for i, s in enumerate(sentences)]))
