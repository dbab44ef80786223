"""LSTM language model of a corpus, trained once and saved beside the prepared data; self-BLEU of samples."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from arae_core.data.atomic import replace_file_atomically
from arae_core.evaluation.language_model import LanguageModel, train_language_model
from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.evaluation.transfer_metrics import bleu

VERSION = 2
"""Increases when the same sentences give another language model."""

Log = Callable[[str], None]
"""Prints one line of progress."""


def epoch_logger(log: Log) -> Callable[[int, int, float], None]:
    """Return a progress callback (epoch, epochs, validation perplexity) that logs a line per epoch."""
    return lambda epoch, epochs, value: log(f"  epoch {epoch}/{epochs}: {value:.1f}")


def load_or_train_language_model(model: EvaluatedModel, storage: Path, log: Log) -> LanguageModel:
    """Return the language model of the model's training sentences, from `storage` if it is there.

    The file is written atomically. A file with the weights of an earlier version is replaced.
    """
    from safetensors.torch import load_file, save_file

    file = storage / "data" / model.corpus.fingerprint / f"language_model-{VERSION}.safetensors"
    spec: Any = model.model.state.spec
    device = model.model.state.device
    if file.is_file():
        language_model = LanguageModel(spec)
        with suppress(RuntimeError):  # names or shapes of an earlier version
            language_model.load_state_dict(load_file(file))
            return language_model.to(device)
    log("training a language model of the training sentences, once for this corpus")
    train = model.store("train")
    language_model = train_language_model(
        train, model.store("validation"), spec, real=train, device=device, progress=epoch_logger(log)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file_atomically(file) as partial:
        save_file({name: tensor.cpu().contiguous() for name, tensor in language_model.state_dict().items()}, partial)
    return language_model


def self_bleu(sentences: Sequence[str]) -> float:
    """Return the similarity of sentences: mean BLEU of each against all others, in [0, 100] (Zhu et al. 2018)."""
    if len(sentences) < 2:
        return 0.0
    refs = [[other] for other in sentences]
    scores = [bleu([s], refs[:i] + refs[i + 1 :], sentence_level=True) for i, s in enumerate(sentences)]
    return float(np.mean(scores))
