"""Two models small enough to train in a few seconds, and an empty MLflow store."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arae_core.config import Code, Critic, Decoder, Encoder, Generator, Settings, Vocabulary

SENTENCES = [
    f"{article} {noun} {verb} ."
    for article in ("a", "the", "two")
    for noun in ("man", "dog", "cat", "boy")
    for verb in ("sleeps", "runs", "eats")
]
TINY: dict[str, Any] = {
    "batch_size": 7,
    "longest": 6,
    "encoder": Encoder(embedding=5, hidden=(13,), learning_rate=0.01),
    "decoder": Decoder(embedding=5, hidden=(13,), learning_rate=0.01),
    "code": Code(size=11),
    "generator": Generator(noise_size=3, hidden=(8,)),
    "critic": Critic(hidden=(8,), steps=1),
}


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SENTENCES."""
    from arae_core import vocabulary
    from arae_core.batches import TokenStore
    from arae_core.checkpoint import save_checkpoint
    from arae_core.training import TrainingState, train

    words = vocabulary.Vocabulary.train(SENTENCES, Vocabulary())
    state = TrainingState.new(Settings(**TINY), words.shape)
    list(train(state, TokenStore.from_rows(words.encode(SENTENCES)), until=40, every=40))
    return save_checkpoint(tmp_path_factory.mktemp("text") / "checkpoint", state, words)


@pytest.fixture(scope="session")
def labelled_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SENTENCES with the class "animal" or "human"."""
    from arae_core import vocabulary
    from arae_core.batches import TokenStore
    from arae_core.checkpoint import save_checkpoint
    from arae_core.training import TrainingState, train

    words = vocabulary.Vocabulary.train(SENTENCES, Vocabulary())
    state = TrainingState.new(Settings(**TINY), replace(words.shape, classes=("animal", "human")))
    labels = [int("man" in sentence or "boy" in sentence) for sentence in SENTENCES]
    list(train(state, TokenStore.from_rows(words.encode(SENTENCES), labels), until=40, every=40))
    return save_checkpoint(tmp_path_factory.mktemp("labelled") / "checkpoint", state, words)


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 6 x 5 noise."""
    from arae_core.batches import ImageStore
    from arae_core.checkpoint import save_checkpoint
    from arae_core.training import TrainingState, train

    pixels = (np.random.default_rng(0).random((31, 30)) < 0.4).astype(np.uint8)
    store = ImageStore(pixels, 6, 5)
    state = TrainingState.new(replace(Settings(**TINY), kind="image"), store.shape)
    list(train(state, store, until=20, every=20))
    return save_checkpoint(tmp_path_factory.mktemp("image") / "checkpoint", state)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes two seconds to make one, so that tests copy it."""
    from pipelines.tracking.store import open_tracking

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_tracking(f"sqlite:///{file}")
    return file


@pytest.fixture
def tracking_uri(empty_database: Path, tmp_path: Path) -> str:
    """An empty store of the test's own."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def ray_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts Ray, or joins a cluster, ends with status 1; the tests' own cluster may be up all the while."""
    import ray

    def start(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", start)
