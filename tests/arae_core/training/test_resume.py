"""A run that is stopped, saved, loaded in a new process and continued is bit-identical to one that never stopped."""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import VocabularySettings
from arae_core.training.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from arae_core.training.loop import train
from arae_core.training.state import TrainingState
from tests.arae_core.small import WORDS, new_state, settings_of, store_of

VOCABULARY = Vocabulary.train([" ".join(map(str, WORDS))], VocabularySettings(tokenizer="spaces"))
SGD = {f"{part}.optimizer": "sgd" for part in ("encoder", "decoder", "generator", "critic")}
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "text, Adam": ("text", 0, {"generator.average": 0.9, "encoder.word_dropout": 0.3}),
    "text, SGD, clipped": ("text", 0, {"critic.objective": "wgan-clip"} | SGD),
    "text, noise shrinks at 100": ("text", 95, {"code.noise": 0.5, "code.noise_decay": 0.5}),
    "text, cooling down": ("text", 0, {"iterations": 17, "cooldown": 0.7, "encoder.weight_decay": 0.1}),
    "text, plain, float32": ("text", 0, {"critic.objective": "none", "precision": "float32"}),
    "two classes": ("labelled", 0, {}),
    "two classes, markers hidden": ("labelled", 0, {"encoder.marker_ratio": 1.3}),
    "three classes, separate decoders": ("three", 0, {"decoder.conditioning": "separate"}),
    "image, Adam": ("image", 0, {"generator.normalization": "batch", "generator.average": 0.9}),
    "image, SGD, AAE": ("image", 0, {"prior.kind": "gaussian"} | SGD),
    "image, bfloat16": ("image", 0, {"precision": "bfloat16"}),
}
"""Name -> kind of data, first step, settings."""


def advance(state: TrainingState, kind: str, folders: Sequence[Path]) -> None:
    """Train for ten iterations for each folder, and save the state there."""
    left = {state.step + 10 * (i + 1): folder for i, folder in enumerate(folders)}
    for report in train(state, store_of(kind), until=max(left), every=5):
        if report.step in left:
            vocabulary = VOCABULARY if state.settings.kind == "text" else None
            save_checkpoint(left.pop(report.step), state, vocabulary)
    assert not left


def continue_all(root: str) -> None:
    """Continue every case, in the new process."""
    for name in CASES:
        state, _, _ = load_checkpoint(Path(root) / f"{name} half")
        advance(state, CASES[name][0], [Path(root) / f"{name} resumed"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resume")
    for name, (kind, step, changes) in CASES.items():
        state = new_state(settings_of(kind, changes), kind)
        state.step = step
        advance(state, kind, [root / f"{name} half", root / f"{name} straight"])
    process = multiprocessing.get_context("forkserver").Process(target=continue_all, args=(str(root),))
    process.start()
    process.join()
    assert process.exitcode == 0
    return root


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_bit_identical(name: str, folder: Path) -> None:
    """Manifests hold the checksums of weights, moments and random numbers."""
    half, straight, resumed = (read_manifest(folder / f"{name} {part}") for part in ("half", "straight", "resumed"))
    assert straight == resumed
    assert straight["step"] == half["step"] + 10 == CASES[name][1] + 20
    for file in ("model.safetensors", "training.safetensors"):
        assert half["files"][file] != straight["files"][file]
