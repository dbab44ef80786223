"""What MLflow shows of a trial that went on from another's checkpoint of an earlier step."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from arae_core.runtime.parallel import Parallel
from pipelines.reporting.summary import trial_closer
from pipelines.sweeps.trial import Plan
from pipelines.sweeps.tune_callback import Watch
from pipelines.tracking.store import connect
from pipelines.training.trainer import Share
from pipelines.training.worker import Metrics, Task, work

RATE = "critic.learning_rate"


class Population:
    """Trials that keep their checkpoints where Ray Tune does."""

    def __init__(self, parent: Task, folder: Path) -> None:
        self.plan = Plan(parent, "test", Share(1, 1.0, 0.0), str(folder), exchanged=True)
        self.folder, self.client = folder, connect(parent.tracking_uri)
        self.runs: dict[str, str] = {}

    def train(
        self, trial: str, rate: float, start: Path | None, reports: int, away: int = 0, lost: bool = False
    ) -> Path:
        """The checkpoint of the last of so many reports, in which it is stopped. away: the report from which on its
        points cannot be sent. lost: whether nobody keeps its checkpoints."""
        if trial in self.runs:
            self.client.restore_run(self.runs[trial])
        task = self.plan.task_of(trial, {RATE: rate}, str(start) if start else None)
        self.runs[trial] = task.run_id
        kept, folder = [], self.folder / ("lost" if lost else trial)

        def report(metrics: Metrics, checkpoint: Path | None) -> None:
            assert checkpoint is not None
            number = len(list(folder.glob("checkpoint_*")))
            kept.append(shutil.copytree(checkpoint, folder / f"checkpoint_{number:06d}"))
            if len(kept) == away:
                self.client.delete_run(task.run_id)
            if len(kept) == reports:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            work(task, Parallel(), report)
        return kept[-1]

    def end(self, trial: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As Ray Tune tells of it."""
        self.client.restore_run(self.runs[trial])
        told = SimpleNamespace(
            trial_id=trial,
            status="RUNNING",
            config={},
            last_result={"run_id": self.runs[trial], "step": 24, "end": 24},
            checkpoint=SimpleNamespace(path=str(checkpoint)),
            storage=SimpleNamespace(trial_fs_path=str(self.folder / trial)),
            run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
        )
        monkeypatch.setattr(Watch, "ended", trial_closer(self.plan.task.tracking_uri), raising=False)
        Watch().on_trial_complete(0, [], told)

    def steps(self, trial: str, curve: str) -> list[int]:
        """In the order in which they were measured."""
        return [point.step for point in self.client.get_metric_history(self.runs[trial], curve)]


@pytest.fixture
def population(make_task: Callable[..., Task], tmp_path: Path) -> Population:
    return Population(make_task(), tmp_path)


def test_every_point_once_and_those_of_steps_that_come_again_once_more(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow is away at the end of the first life and at that of the second one, whose first process is lost."""
    donor = population.train("a", 5e-4, None, reports=1)
    population.train("b", 1e-4, None, reports=3, away=2)
    population.train("b", 3e-4, donor, reports=1, lost=True)
    own = population.train("b", 3e-4, donor, reports=1)
    population.end("b", population.train("b", 3e-4, own, reports=2, away=1), monkeypatch)
    assert population.steps("b", "reconstruction_loss") == [3, 6, 9, 12, 15, 18, 9, 12, 15, 18, 21, 24]
    assert population.steps("b", "generation_perplexity") == [6, 12, 18, 12, 18, 24]
    assert population.steps("b", f"pbt/{RATE}") == [6]


def test_a_life_that_is_gone_back_to_is_the_same(population: Population) -> None:
    """A sweep that was killed knows nothing of its last exploits: the trial goes on as if there had been none."""
    donor = population.train("a", 5e-4, None, reports=1)
    first = population.train("b", 1e-4, None, reports=1)
    population.train("b", 1e-4, first, reports=1, lost=True)  # step 12, sent, and no checkpoint
    population.train("b", 3e-4, donor, reports=2)
    population.train("b", 1e-4, first, reports=2)
    assert population.steps("b", "generation_perplexity") == [6, 12, 12, 18, 18]


def test_what_a_donor_has_not_sent_is_not_its_clones(population: Population, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = population.train("a", 5e-4, None, reports=4, away=3)
    clone = population.train("b", 3e-4, donor, reports=1)
    kept = json.loads((clone / "training.json").read_text())
    assert [point[0] for point in kept["unsent"]] == [f"pbt/{RATE}"]
    population.client.delete_run(population.runs["b"])
    population.end("b", donor, monkeypatch)
    assert population.steps("b", f"pbt/{RATE}") == [24] and population.steps("b", "reconstruction_loss") == []


def test_what_a_life_has_not_sent_at_its_end_is_sent_as_its_own(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are those of the life before, which came further and were sent."""
    donor = population.train("a", 5e-4, None, reports=1)
    population.train("b", 1e-4, None, reports=3)
    population.end("b", population.train("b", 3e-4, donor, reports=2, away=1), monkeypatch)
    assert population.steps("b", "reconstruction_loss") == [3, 6, 9, 12, 15, 18, 9, 12, 15, 18]
    assert population.steps("b", "generation_perplexity") == [6, 12, 18, 12, 18]
