"""Which checkpoint a trial goes on from."""

import shutil
from pathlib import Path

import pytest

from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import Settings
from arae_core.training.checkpoint import read_manifest, save_checkpoint
from arae_core.training.state import TrainingState
from pipelines.sweeps.trial import Plan
from pipelines.training.trainer import Share
from pipelines.training.worker import Task
from tests.pipelines.conftest import SENTENCES, TINY


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep whose trial "a" has the checkpoints of steps 2, 4 and 6, the last of them not whole."""
    from arae_core.settings import VocabularySettings

    words = Vocabulary.train(SENTENCES, VocabularySettings())
    state = TrainingState.new(Settings(**TINY), words.spec)
    for number, step in enumerate((2, 4, 6)):
        state.step = step
        save_checkpoint(tmp_path / "a" / f"checkpoint_00000{number}", state, words)
    (tmp_path / "a" / "checkpoint_000002" / "model.safetensors").unlink()
    return tmp_path


def plan(sweep: Path, *, exchanged: bool = False) -> Plan:
    return Plan(Task({}, "", "", ""), "arae-test", Share(1, 1.0, 0.0), str(sweep), exchanged)


def test_the_newest_of_its_own_that_is_whole(sweep: Path) -> None:
    checkpoints = sweep / "a"
    for given in (None, str(checkpoints / "checkpoint_000000")):
        found = plan(sweep).newest("a", given)
        assert found is not None and read_manifest(Path(found))["step"] == 4
    newest = str(checkpoints / "checkpoint_000001")
    assert plan(sweep).newest("a", newest) == newest
    copy = shutil.copytree(newest, sweep / "copy")  # Ray Tune may hand out a copy
    assert plan(sweep).newest("a", str(copy)) == str(copy)
    assert plan(sweep).newest("b", None) is None


def test_where_trials_exchange_checkpoints_the_given_one(sweep: Path) -> None:
    given = str(sweep / "a" / "checkpoint_000000")
    assert plan(sweep, exchanged=True).newest("a", given) == given
    assert plan(sweep, exchanged=True).newest("a", None) is None
