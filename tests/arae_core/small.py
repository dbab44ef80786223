"""Small models and data that the core's tests share.

Sizes are small, prime and unequal, and the special tokens have unusual ids, so that a mix-up shows. Arithmetic is
float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch.multiprocessing
from torch import Tensor

from arae_core.data.batches import ImageStore, Store, TokenStore
from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.settings import Settings
from arae_core.settings.tree import with_settings
from arae_core.training.loop import Report, train
from arae_core.training.state import TrainingState

TEXT = TextSpec(vocabulary=17, pad=2, start=0, end=5, unknown=3)
WORDS = [i for i in range(TEXT.vocabulary) if i not in (TEXT.pad, TEXT.start, TEXT.end, TEXT.unknown)]
LABELLED = replace(TEXT, classes=("low", "high"))
THREE = replace(TEXT, classes=("low", "middle", "high"))
SHAPES = {"text": TEXT, "labelled": LABELLED, "three": THREE}
IMAGE = ImageSpec(height=3, width=5)


def start_processes(worker: Callable[..., None], arguments: tuple[object, ...], nprocs: int) -> None:
    """Run worker(rank, *arguments) in `nprocs` processes that have imported torch already, see tests/conftest.py."""
    start = torch.multiprocessing.start_processes  # type: ignore[attr-defined]
    start(worker, arguments, nprocs=nprocs, start_method="forkserver")  # type: ignore[no-untyped-call]


def text_settings(changes: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a small ARAE of sentences. changes: dotted name -> value."""
    base = {
        **{"batch_size": 8, "longest": 7, "seed": 5, "precision": "float64", "code.size": 7, "critic.steps": 3},
        **{"encoder.embedding": 5, "decoder.embedding": 3, "decoder.attribute_embedding": 2, "generator.noise_size": 5},
        **{"encoder.hidden": (11,), "decoder.hidden": (13,), "generator.hidden": (11, 3), "critic.hidden": (13, 5)},
        **{"classifier.hidden": (11, 5), "generator.learning_rate": 1e-3, "critic.learning_rate": 1e-3},
    }
    return with_settings(Settings(), base | dict(changes or {}))


def image_settings(changes: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a small ARAE of images of 3 x 5 pixels. changes: dotted name -> value."""
    base = {"kind": "image", "encoder.hidden": (13, 11), "decoder.hidden": (5, 11), "encoder.normalization": "layer"}
    return with_settings(text_settings(base), changes or {})


def settings_of(kind: str, changes: Mapping[str, Any] | None = None) -> Settings:
    return image_settings(changes) if kind == "image" else text_settings(changes)


def sentences(count: int = 29, longest: int = 7, seed: int = 1) -> list[list[int]]:
    """Return `count` sentences of 1 to `longest` words, of each length in turn."""
    rng = np.random.default_rng(seed)
    return [rng.choice(WORDS, size=1 + i % longest).tolist() for i in range(count)]


def images(count: int = 29, seed: int = 1) -> ImageStore:
    """Return `count` images, each a noisy copy of one of three."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 2, (3, IMAGE.height * IMAGE.width))
    pixels = patterns[rng.integers(0, 3, count)] ^ (rng.random((count, IMAGE.height * IMAGE.width)) < 0.05)
    return ImageStore(pixels.astype(np.uint8), IMAGE.height, IMAGE.width)


def store_of(kind: str) -> Store:
    """Return examples of text or image; labelled and three are sentences of two and of three unbalanced classes."""
    if kind == "image":
        return images()
    classes = len(SHAPES[kind].classes)
    rows = sentences()
    return TokenStore.from_rows(rows, [max(0, i % 5 - 5 + classes) for i in range(len(rows))] if classes else None)


def spec_of(kind: str) -> DataSpec:
    return IMAGE if kind == "image" else SHAPES[kind]


def new_state(settings: Settings, kind: str | None = None) -> TrainingState:
    return TrainingState.new(settings, spec_of(kind or settings.kind))


def trained(settings: Settings, until: int, kind: str | None = None) -> TrainingState:
    """Return a state after `until` iterations on the small data, in this process."""
    state = new_state(settings, kind)
    run(state, until, kind)
    return state


def run(state: TrainingState, until: int, kind: str | None = None, every: int | None = None) -> list[Report]:
    """Train a state on the small data; return the reports."""
    return list(train(state, store_of(kind or state.settings.kind), until=until, every=every or until))


def normal(rows: int, columns: int, seed: int = 3) -> Tensor:
    """Return N(0, 1) draws, float64[rows, columns]."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(state: TrainingState) -> dict[str, Tensor]:
    """Return a copy of every tensor of every part."""
    return {name: tensor.detach().clone() for name, tensor in state.modules.state_dict().items()}


def assert_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    """Assert that names are the same and that values differ by at most `tolerance` (0: bit-identical)."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        difference = float((tensor.double() - second[name].double()).abs().max())
        assert difference <= tolerance, f"{name} differs by {difference:.3g}"
