"""A checkpoint with every kind of file, and ways to change it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import VocabularySettings
from arae_core.training.checkpoint import save_checkpoint
from arae_core.training.checksums import sealed
from arae_core.training.state import TrainingState
from tests.arae_core.small import text_settings

VOCABULARY = Vocabulary.train(["one two three"], VocabularySettings(tokenizer="spaces"))
EXTRA: dict[str, Any] = {"best": 1.5, "run": "abc", "history": [1, 2, None]}
MODEL_FILES = [
    "manifest.json",
    "settings.json",
    "model.safetensors",
    "vocabulary/tokenizer.json",
    "vocabulary/vocabulary.json",
]
FILES = [*MODEL_FILES, "training.safetensors", "training.json"]


@pytest.fixture(scope="session")
def state() -> TrainingState:
    """A small model of sentences at step 7. Tests must not change it."""
    made = TrainingState.new(text_settings({"generator.average": 0.9}), VOCABULARY.spec)
    made.step = 7
    return made


@pytest.fixture(scope="session")
def original(state: TrainingState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("original") / "c", state, VOCABULARY, EXTRA)


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint of `state`, in a folder of its own."""
    return Path(shutil.copytree(original, tmp_path / "c"))


def change_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest | changes)))


def sign_again(folder: Path) -> None:
    """Make the manifest match the files that are in the folder, as an attacker can, too."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for name in files:
        data = (folder / name).read_bytes()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(folder, files=files)
