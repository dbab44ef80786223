"""Fixtures: models that train in seconds, a small corpus, an empty MLflow database, a private Ray cluster."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arae_core.settings import (
    CodeSettings,
    CriticSettings,
    DecoderSettings,
    EncoderSettings,
    GeneratorSettings,
    Settings,
    VocabularySettings,
)
from arae_core.settings.tree import flatten, with_settings
from pipelines.corpora.corpus import Corpus, prepare
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Experiment
from pipelines.runtime.cluster import Room, running
from pipelines.sweeps.search_space import Space
from pipelines.sweeps.sweep import Sweep
from pipelines.training.worker import Task
from tests.pipelines.small import SMALL, Make

SENTENCES = [
    f"{article} {noun} {verb} ."
    for article in ("a", "the", "two")
    for noun in ("man", "dog", "cat", "boy")
    for verb in ("sleeps", "runs", "eats")
]
TINY: dict[str, Any] = {
    "batch_size": 7,
    "longest": 6,
    "encoder": EncoderSettings(embedding=5, hidden=(13,), learning_rate=0.01),
    "decoder": DecoderSettings(embedding=5, hidden=(13,), learning_rate=0.01),
    "code": CodeSettings(size=11),
    "generator": GeneratorSettings(noise_size=3, hidden=(8,)),
    "critic": CriticSettings(hidden=(8,), steps=1),
}


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SENTENCES."""
    from arae_core.data import vocabulary
    from arae_core.data.batches import TokenStore
    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.loop import TrainingState, train

    words = vocabulary.Vocabulary.train(SENTENCES, VocabularySettings())
    state = TrainingState.new(Settings(**TINY), words.spec)
    list(train(state, TokenStore.from_rows(words.encode(SENTENCES)), until=40, every=40))
    return save_checkpoint(tmp_path_factory.mktemp("text") / "checkpoint", state, words)


@pytest.fixture(scope="session")
def labelled_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of SENTENCES with the class "animal" or "human"."""
    from arae_core.data import vocabulary
    from arae_core.data.batches import TokenStore
    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.loop import TrainingState, train

    words = vocabulary.Vocabulary.train(SENTENCES, VocabularySettings())
    state = TrainingState.new(Settings(**TINY), replace(words.spec, classes=("animal", "human")))
    labels = [int("man" in sentence or "boy" in sentence) for sentence in SENTENCES]
    list(train(state, TokenStore.from_rows(words.encode(SENTENCES), labels), until=40, every=40))
    return save_checkpoint(tmp_path_factory.mktemp("labelled") / "checkpoint", state, words)


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 6 x 5 noise."""
    from arae_core.data.batches import ImageStore
    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.loop import TrainingState, train

    pixels = (np.random.default_rng(0).random((31, 30)) < 0.4).astype(np.uint8)
    store = ImageStore(pixels, 6, 5)
    state = TrainingState.new(replace(Settings(**TINY), kind="image"), store.shape)
    list(train(state, store, until=20, every=20))
    return save_checkpoint(tmp_path_factory.mktemp("image") / "checkpoint", state)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database. Tests copy it, because creating one takes two seconds."""
    from pipelines.tracking.store import open_tracking

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_tracking(f"sqlite:///{file}")
    return file


@pytest.fixture
def tracking_uri(empty_database: Path, tmp_path: Path) -> str:
    """Tracking URI of an empty database for one test."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def ray_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray is an error. The cluster of other tests may be running."""
    import ray

    def start(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", start)


@pytest.fixture(scope="session")
def small() -> Experiment:
    """The grammar preset with a model so small that an iteration takes milliseconds."""
    return with_settings(preset("grammar"), SMALL)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="session")
def corpus(small: Experiment, storage: Path) -> Corpus:
    return prepare(small, storage)


@pytest.fixture
def make_task(corpus: Corpus, small: Experiment, tracking_uri: str) -> Callable[..., Task]:
    """make_task(**{"critic.steps": 3}): return a task with its own MLflow run."""
    from pipelines.tracking.runs import start_parent

    def make(trial: str = "train", resume: str | None = None, **changes: Any) -> Task:
        settings = flatten(with_settings(small, changes))
        run_id = start_parent(tracking_uri, "test", trial, params={})
        return Task(settings, str(corpus.folder), tracking_uri, run_id, trial, resume=resume)

    return make


@pytest.fixture
def make_sweep(corpus: Corpus, small: Experiment, tracking_uri: str, tmp_path: Path) -> Make:
    from pipelines.tracking.runs import start_parent

    def make(space: Space, trials: int, changes: dict[str, Any] | None = None, **options: Any) -> Sweep:
        run_id = start_parent(tracking_uri, "arae-grammar", "sweep", params={})
        given = {"trials": trials, "scheduler": "none", "search": "random", "gpus_per_trial": 0.0, "max_concurrent": 0}
        folder = tmp_path / "sweeps" / "sweep"
        experiment = with_settings(small, changes or {})
        return Sweep(folder, experiment, space, {**given, **options}, corpus, tracking_uri, run_id)

    return make


@pytest.fixture(scope="session")
def room() -> Iterator[Room]:
    """A private cluster of two CPUs, whatever the machine has: the workers of the tests are small."""
    with running(Room(2, 0, 2, 0, attached=False), drivers=2, dashboard=True) as started:
        yield started
