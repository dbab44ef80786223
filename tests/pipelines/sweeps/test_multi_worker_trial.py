"""A trial of several workers, of which Ray Tune sees the evaluations only."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arae_core.settings.tree import flatten
from pipelines.experiment.presets import preset
from pipelines.runtime.cluster import DRIVER, Room
from pipelines.sweeps import multi_worker_trial
from pipelines.sweeps.multi_worker_trial import drive_trial
from pipelines.sweeps.search import make_tuner
from pipelines.sweeps.trial import TrialPlan
from pipelines.sweeps.tune_callback import SweepCallback
from pipelines.training.resources import WorkerResources
from pipelines.training.trainer import train_loop_per_worker
from pipelines.training.worker import Task
from tests.pipelines.small import RATES, Make


@pytest.mark.fault
def test_tune_does_not_see_a_checkpoint_saved_before_a_machine_is_removed(
    make_sweep: Make, room: Room, tmp_path: Path
) -> None:
    """Tune ends a sweep in which a report lacks the metric."""
    from ray import tune

    drained = tmp_path / "drained"

    def worker(config: dict[str, Any]) -> Any:
        """Run the worker on a machine that is about to be removed."""
        import ray.train

        def soon() -> str:
            drained.touch()
            return "soon"

        ray.train.get_preemption_info = soon
        return train_loop_per_worker({**config, "alone": False})

    def drive(config: dict[str, Any], plan: TrialPlan) -> None:
        from pipelines.training import trainer

        trainer.train_loop_per_worker = worker
        drive_trial(config, plan)

    sweep = make_sweep(RATES, 1, {"max_failures": 0, "iterations": 12})
    steps: list[int] = []
    SweepCallback.reported, SweepCallback.ended = lambda rows, row: steps.append(row["step"]), lambda row: None
    SweepCallback.interrupted, SweepCallback.selection, SweepCallback.rows = False, None, {}
    trainable = tune.with_resources(tune.with_parameters(drive, plan=sweep.plan(room)), {DRIVER: 1})
    (result,) = make_tuner(sweep, trainable, 1).fit()
    assert result.error is None and drained.exists() and steps == [6, 12]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """drive(get, fit): drive a trial with this queue and this training; return the training's name."""
    import ray.util.queue
    from ray import tune

    def run(get: Callable[[], Any], fit: Callable[[], None] = lambda: None) -> list[str]:
        names = list[str]()

        def make(task: Task, resources: WorkerResources, name: str, *_: object, **__: object) -> Any:
            names.append(name)
            return SimpleNamespace(fit=fit)

        queue = SimpleNamespace(get=lambda timeout: get(), shutdown=lambda: None)
        monkeypatch.setattr(ray.util.queue, "Queue", lambda *_, **__: queue)
        monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "ab_0"))
        monkeypatch.setattr(tune, "get_checkpoint", lambda: None)
        monkeypatch.setattr(multi_worker_trial, "make_trainer", make)
        monkeypatch.setattr(TrialPlan, "task_of", lambda plan, *_: plan.task)
        task, two = Task(flatten(preset("grammar")), "", "", ""), WorkerResources(2, 1, 0)
        drive_trial({}, TrialPlan(task, "test", two, str(tmp_path), exchanged=True))
        return names

    return run


def test_every_start_of_a_trial_has_its_own_name(drive: Callable[..., list[str]]) -> None:
    """Under an earlier name, Ray would resume that training's checkpoint instead of the given one."""
    from ray.util.queue import Empty

    def get() -> Any:
        raise Empty

    names = [*drive(get), *drive(get)]
    assert len(set(names)) == 2 and all(name.startswith("ab_0-") for name in names)


def test_the_last_report_is_passed_on_however_late(
    drive: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives, and the training ends, just after the queue was empty: a busy machine delays the driver there."""
    from ray import tune
    from ray.util.queue import Empty

    last, queued, asked, passed = {"step": 24, "generation_perplexity": 3.0}, list[Any](), threading.Event(), []

    def get() -> Any:
        if queued:
            return queued.pop()
        asked.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
        raise Empty

    def fit() -> None:
        assert asked.wait(60)
        queued.append((last, None))

    monkeypatch.setattr(tune, "report", lambda metrics, checkpoint: passed.append(metrics))
    before = set(threading.enumerate())
    drive(get, fit)
    assert passed == [last]
