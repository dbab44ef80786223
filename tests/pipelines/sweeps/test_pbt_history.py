"""Curves in MLflow of a trial that continued from another trial's checkpoint of an earlier step."""

import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from arae_core.runtime.parallel import Parallel
from arae_core.settings.tree import flatten
from pipelines.corpora.corpus import Corpus
from pipelines.experiment.settings import Experiment
from pipelines.reporting.summary import trial_closer
from pipelines.sweeps.trial import TrialPlan
from pipelines.sweeps.tune_callback import SweepCallback
from pipelines.tracking.runs import start_parent
from pipelines.tracking.store import connect
from pipelines.training.resources import WorkerResources
from pipelines.training.worker import Metrics, Task, read_trainer_state, train_worker

RATE = "critic.learning_rate"


class Population:
    """Trials with checkpoints where Ray Tune keeps them. The donor "a" has reported once."""

    def __init__(self, parent: Task, folder: Path) -> None:
        self.plan = TrialPlan(parent, "test", WorkerResources(1, 1.0, 0.0), str(folder), exchanged=True)
        self.folder, self.client = folder, connect(parent.tracking_uri)
        self.runs: dict[str, str] = {}
        self.donor = self.train("a", 5e-4, None, reports=1)

    def train(
        self, trial: str, rate: float, start: Path | None, reports: int, away: int = 0, lost: bool = False
    ) -> Path:
        """Train until it is stopped in the last of so many reports; return that report's checkpoint.

        away: the report from which on MLflow cannot be reached. lost: the checkpoints are lost.
        """
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
            train_worker(task, Parallel(), report)
        return kept[-1]

    def end(self, trial: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """End a trial as Ray Tune does."""
        self.client.restore_run(self.runs[trial])
        ended = SimpleNamespace(
            trial_id=trial,
            status="RUNNING",
            config={},
            last_result={"run_id": self.runs[trial], "step": 24, "end": 24},
            checkpoint=SimpleNamespace(path=str(checkpoint)),
            storage=SimpleNamespace(trial_fs_path=str(self.folder / trial)),
            run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
        )
        monkeypatch.setattr(SweepCallback, "ended", trial_closer(self.plan.task.tracking_uri), raising=False)
        SweepCallback().on_trial_complete(0, [], ended)

    def steps(self, trial: str, curve: str) -> list[int]:
        """Return the steps of a curve's points in the order of measurement."""
        return [point.step for point in self.client.get_metric_history(self.runs[trial], curve)]


@pytest.fixture(scope="module")
def population(
    corpus: Corpus, small: Experiment, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Population:
    folder = tmp_path_factory.mktemp("population")
    uri = f"sqlite:///{shutil.copyfile(empty_database, folder / 'mlflow.db')}"
    task = Task(flatten(small), str(corpus.folder), uri, start_parent(uri, "test", "sweep", params={}))
    return Population(task, folder)


def test_points_of_repeated_steps_are_new_and_sent_once(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow is away at the end of the first lineage, and at the end of the second, whose first process is lost."""
    donor = population.donor
    population.train("b", 1e-4, None, reports=3, away=2)
    population.train("b", 3e-4, donor, reports=1, lost=True)
    own = population.train("b", 3e-4, donor, reports=1)
    population.end("b", population.train("b", 3e-4, own, reports=2, away=1), monkeypatch)
    assert population.steps("b", "reconstruction_loss") == [3, 6, 9, 12, 15, 18, 9, 12, 15, 18, 21, 24]
    assert population.steps("b", "generation_perplexity") == [6, 12, 18, 12, 18, 24]
    assert population.steps("b", f"pbt/{RATE}") == [6]


def test_a_trial_that_returns_to_a_lineage_continues_its_curves(population: Population) -> None:
    """A killed sweep has forgotten its last exploits: the trial continues as if there had been none."""
    first = population.train("c", 1e-4, None, reports=1)
    population.train("c", 1e-4, first, reports=1, lost=True)  # step 12 is sent, but has no checkpoint
    population.train("c", 3e-4, population.donor, reports=2)
    population.train("c", 1e-4, first, reports=2)
    assert population.steps("c", "generation_perplexity") == [6, 12, 12, 18, 18]


def test_a_clone_does_not_send_its_donors_points(population: Population, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = population.train("d", 5e-4, None, reports=4, away=3)
    clone = population.train("e", 3e-4, donor, reports=1)
    assert [point[0] for point in read_trainer_state(clone)["unsent"]] == [f"pbt/{RATE}"]
    population.client.delete_run(population.runs["e"])
    population.end("e", donor, monkeypatch)
    assert population.steps("e", f"pbt/{RATE}") == [24] and population.steps("e", "reconstruction_loss") == []


def test_unsent_points_at_the_end_belong_to_the_last_lineage(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their steps are steps of the earlier lineage, which came further and was sent."""
    population.train("f", 1e-4, None, reports=3)
    population.end("f", population.train("f", 3e-4, population.donor, reports=2, away=1), monkeypatch)
    assert population.steps("f", "reconstruction_loss") == [3, 6, 9, 12, 15, 18, 9, 12, 15, 18]
    assert population.steps("f", "generation_perplexity") == [6, 12, 18, 12, 18]
