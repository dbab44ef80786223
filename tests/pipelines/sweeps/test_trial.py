"""The checkpoint that a trial resumes."""

import shutil
from pathlib import Path

import pytest

from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import Settings
from arae_core.training.checkpoint import read_manifest, save_checkpoint
from arae_core.training.state import TrainingState
from pipelines.sweeps.trial import TrialPlan
from pipelines.training.resources import WorkerResources
from pipelines.training.worker import Task
from tests.pipelines.conftest import SENTENCES, TINY


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep whose trial "a" has checkpoints of steps 2, 4 and 6; the last one is incomplete."""
    from arae_core.settings import VocabularySettings

    words = Vocabulary.train(SENTENCES, VocabularySettings())
    state = TrainingState.new(Settings(**TINY), words.spec)
    for number, step in enumerate((2, 4, 6)):
        state.step = step
        save_checkpoint(tmp_path / "a" / f"checkpoint_00000{number}", state, words)
    (tmp_path / "a" / "checkpoint_000002" / "model.safetensors").unlink()
    return tmp_path


def plan(sweep: Path, *, exchanged: bool = False) -> TrialPlan:
    return TrialPlan(Task({}, "", "", ""), "arae-test", WorkerResources(1, 1.0, 0.0), str(sweep), exchanged)


def test_a_trial_resumes_its_newest_complete_checkpoint(sweep: Path) -> None:
    checkpoints = sweep / "a"
    for given in (None, str(checkpoints / "checkpoint_000000")):
        found = plan(sweep).newest_checkpoint("a", given)
        assert found is not None and read_manifest(Path(found))["step"] == 4
    newest = str(checkpoints / "checkpoint_000001")
    assert plan(sweep).newest_checkpoint("a", newest) == newest
    copy = shutil.copytree(newest, sweep / "copy")  # Ray Tune may give a copy
    assert plan(sweep).newest_checkpoint("a", str(copy)) == str(copy)
    assert plan(sweep).newest_checkpoint("b", None) is None


def test_with_exchanged_checkpoints_a_trial_resumes_the_given_one(sweep: Path) -> None:
    given = str(sweep / "a" / "checkpoint_000000")
    assert plan(sweep, exchanged=True).newest_checkpoint("a", given) == given
    assert plan(sweep, exchanged=True).newest_checkpoint("a", None) is None
