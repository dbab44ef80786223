"""`fit`: from examples to a trained model in one call."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from arae_core.data.batches import ImageStore, Store, TokenStore
from arae_core.data.data_spec import DataSpec, ImageSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Examples, Images, Model
from arae_core.settings import Settings
from arae_core.settings.checks import require
from arae_core.training.loop import Report, total_iterations, train
from arae_core.training.state import TrainingState


def fit(
    examples: Examples,
    labels: Sequence[str] | None = None,
    *,
    settings: Settings | None = None,
    iterations: int = 0,
    device: torch.device | str = "cpu",
    every: int = 100,
    on_report: Callable[[Report], object] | None = None,
) -> Model:
    """Train a model of sentences, or of images uint8[N, H, W] of 0 and 1.

    labels: the class of each sentence; with them Algorithm 2 is run, and the model can transfer.
    settings: defaults suit sentences; `kind` follows from the examples, and `longest` too if settings are not given.
    iterations: by default those of the settings, else of its epochs.
    on_report: called every `every` iterations; by default, a line of progress goes to stderr.

    Raise ValueError for fewer examples than a batch, labels that do not fit the sentences, settings that do not fit the
    examples, and FloatingPointError if training diverges.
    """
    given = settings is not None
    settings = replace(settings or Settings(), kind="image" if isinstance(examples, np.ndarray) else "text")
    if not given:
        settings = replace(settings, batch_size=min(settings.batch_size, max(1, len(examples))))
    require(len(examples) >= settings.batch_size, "examples", len(examples), f">= batch_size ({settings.batch_size})")
    vocabulary, store, spec = _prepared(examples, labels, settings)
    if not given and isinstance(store, TokenStore):
        settings = replace(settings, longest=max(1, int(store.lengths.max())))
    settings = replace(settings, iterations=iterations or total_iterations(settings, len(store)))
    state = TrainingState.new(settings, spec, device)
    for report in train(state, store, until=settings.iterations, every=every):
        on_report(report) if on_report else _print_progress(report, settings.iterations)
    return Model(state, vocabulary)


def _prepared(
    examples: Examples, labels: Sequence[str] | None, settings: Settings
) -> tuple[Vocabulary | None, Store, DataSpec]:
    if settings.kind == "image":
        images: Images = examples  # type: ignore[assignment]
        require(labels is None, "labels", labels, "left out for images")
        require(images.ndim == 3, "examples", images.shape, "of shape (N, H, W)")
        require(bool(np.isin(images, (0, 1)).all()), "pixels", f"up to {images.max()}", "0 or 1")
        spec = ImageSpec(images.shape[1], images.shape[2])
        return None, ImageStore(images.reshape(len(images), spec.height * spec.width), spec.height, spec.width), spec
    sentences: Sequence[str] = examples  # type: ignore[assignment]
    vocabulary = Vocabulary.train(sentences, settings.vocabulary)
    classes = tuple(sorted(set(labels or ())))
    if labels is not None:
        require(len(labels) == len(examples), "labels", len(labels), f"one for each of {len(examples)} sentences")
        require(len(classes) >= 2, "labels", classes, "of two or more classes")
    numbers = None if labels is None else [classes.index(label) for label in labels]
    tokens = TokenStore.from_rows(vocabulary.encode(sentences), numbers)
    return vocabulary, tokens, replace(vocabulary.spec, classes=classes)


def _print_progress(report: Report, until: int) -> None:
    """Write one line to stderr."""
    shown = [name for name in ("reconstruction_loss", "distance") if name in report.scalars]
    figures = "  ".join(f"{name} {report.scalars[name]:.3f}" for name in shown)
    print(f"step {report.step} of {until}  {figures}", file=sys.stderr)
