"""A trial of several workers, of which Ray Tune sees the evaluations alone."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arae_core.settings.tree import flatten
from pipelines.experiment.presets import preset
from pipelines.runtime.cluster import DRIVER, Room
from pipelines.sweeps.multi_worker_trial import drive_trial
from pipelines.sweeps.search import make_tuner
from pipelines.sweeps.trial import Plan
from pipelines.sweeps.tune_callback import Watch
from pipelines.training.trainer import Share, train_worker
from pipelines.training.worker import Task
from tests.pipelines.small import RATES, Make


def test_a_checkpoint_before_a_machine_goes_is_none_of_tunes_business(
    make_sweep: Make, room: Room, tmp_path: Path
) -> None:
    """Tune ends a sweep in which a report lacks the metric."""
    from ray import tune

    drained = tmp_path / "drained"

    def worker(config: dict[str, Any]) -> Any:
        """The worker, on a machine that is about to go."""
        import ray.train

        def soon() -> str:
            drained.touch()
            return "soon"

        ray.train.get_preemption_info = soon
        return train_worker({**config, "alone": False})

    def drive(config: dict[str, Any], plan: Plan) -> None:
        from pipelines.training import trainer

        trainer.train_worker = worker
        drive_trial(config, plan)

    sweep = make_sweep(RATES, 1, {"max_failures": 0})
    steps: list[int] = []
    Watch.reported, Watch.ended = lambda rows, row: steps.append(row["step"]), lambda row: None
    Watch.interrupted, Watch.selection, Watch.rows = False, None, {}
    trainable = tune.with_resources(tune.with_parameters(drive, plan=sweep.plan(room)), {DRIVER: 1})
    (result,) = make_tuner(sweep, trainable, 1).fit()
    assert result.error is None and drained.exists()
    assert steps == [6, 12, 18, 24]


def test_every_start_of_a_trial_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name of before, Ray would go on from its checkpoint instead of the one that was given."""
    import ray.util.queue
    from ray import tune

    from pipelines.sweeps import multi_worker_trial

    class Queue:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def get(self, timeout: float) -> Any:
            raise ray.util.queue.Empty

        def shutdown(self) -> None:
            pass

    names = list[str]()

    def make(task: Task, share: Share, name: str, *_: object, **__: object) -> Any:
        names.append(name)
        return SimpleNamespace(fit=lambda: None)

    monkeypatch.setattr(ray.util.queue, "Queue", Queue)
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "ab_0"))
    monkeypatch.setattr(tune, "get_checkpoint", lambda: None)
    monkeypatch.setattr(multi_worker_trial, "make_trainer", make)
    plan = Plan(Task(flatten(preset("grammar")), "", "", ""), "test", Share(2, 1, 0), str(tmp_path), exchanged=True)
    monkeypatch.setattr(Plan, "task_of", lambda plan, *_: plan.task)
    for _ in range(2):
        drive_trial({}, plan)
    assert len(set(names)) == 2 and all(name.startswith("ab_0-") for name in names)


def test_the_last_report_is_passed_on_however_late_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes, and the training ends, just after there was none: a busy machine holds the driver up in between."""
    import ray.util.queue
    from ray import tune

    from pipelines.sweeps import multi_worker_trial

    last, come, asked, told = {"step": 24, "generation_perplexity": 3.0}, list[Any](), threading.Event(), list[Any]()

    class Queue:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def get(self, timeout: float) -> Any:
            if come:
                return come.pop()
            asked.set()
            for thread in set(threading.enumerate()) - before:
                thread.join(60)
            raise ray.util.queue.Empty

        def shutdown(self) -> None:
            pass

    def fit() -> None:
        assert asked.wait(60)
        come.append((last, None))

    monkeypatch.setattr(ray.util.queue, "Queue", Queue)
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "ab_0"))
    monkeypatch.setattr(tune, "get_checkpoint", lambda: None)
    monkeypatch.setattr(tune, "report", lambda metrics, checkpoint: told.append(metrics))
    monkeypatch.setattr(multi_worker_trial, "make_trainer", lambda *_, **__: SimpleNamespace(fit=fit))
    plan = Plan(Task(flatten(preset("grammar")), "", "", ""), "test", Share(2, 1, 0), str(tmp_path), exchanged=True)
    monkeypatch.setattr(Plan, "task_of", lambda plan, *_: plan.task)
    before = set(threading.enumerate())
    drive_trial({}, plan)
    assert told == [last]
