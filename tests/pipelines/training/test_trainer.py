"""Ray Train: several workers, killed workers, killed and repeated runs. Weights are compared bit for bit."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arae_core.settings.tree import flatten
from pipelines.experiment.errors import FailedError
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Experiment
from pipelines.runtime import progress_actor
from pipelines.runtime.cluster import Room
from pipelines.tracking.store import connect
from pipelines.training import trainer
from pipelines.training.resources import WorkerResources, training_resources
from pipelines.training.trainer import TrainingResult, fit, make_trainer
from pipelines.training.worker import Metrics, Task
from tests.pipelines.small import descendants, last_checkpoint, step_of, train_alone, weights

Make = Callable[..., Task]
ONE = WorkerResources(workers=1, cpus=1, gpus=0)
LONG = {"iterations": 400, "evaluate_every": 50, "log_every": 5}


def run(
    task: Task,
    resources: WorkerResources,
    storage: Path,
    name: str = "run",
    kills: Mapping[str, int] | None = None,
) -> TrainingResult:
    """Train with Ray. kills: name of a process -> SIGKILL the last such process after the checkpoint of this step."""
    left = dict(kills or {})

    def show(metrics: Metrics) -> None:
        evaluated = metrics.get("evaluation", {}).get("step", -1)
        for process, step in list(left.items()):
            if metrics.get("step", 0) > evaluated >= step:
                found = [pid for pid, line in descendants(os.getpid()) if process in line]
                if found:
                    os.kill(found[-1], signal.SIGKILL)
                    del left[process]
                return

    result = fit(task, resources, name, storage, show)
    assert not left, "not killed"
    return result


@pytest.mark.fault
def test_killed_processes_change_nothing(make_task: Make, room: Room, tmp_path: Path) -> None:
    """First the worker is killed, then the controller, then the actor that the display reads."""
    task = make_task(**LONG)
    result = run(task, ONE, tmp_path, kills={"RayTrainWorker": 50, "TrainController": 200, "ProgressActor": 250})
    last = last_checkpoint(tmp_path / "run")
    assert step_of(last) == 400
    assert weights(last) == weights(train_alone(replace(task, run_id=make_task("alone").run_id), tmp_path / "alone"))
    history = connect(task.tracking_uri).get_metric_history(task.run_id, "generation_perplexity")
    best = min(history, key=lambda point: point.value)
    assert result.metrics["generation_perplexity"] == pytest.approx(best.value)
    assert result.checkpoint is not None and step_of(result.checkpoint) == best.step
    again = run(task, ONE, tmp_path)
    assert again.metrics["generation_perplexity"] == result.metrics["generation_perplexity"], "nothing is left to do"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_of_two_changes_nothing(make_task: Make, room: Room, tmp_path: Path) -> None:
    two = WorkerResources(workers=2, cpus=1, gpus=0)
    run(make_task("left", **LONG), two, tmp_path, "undisturbed")
    run(make_task("disturbed", **LONG), two, tmp_path, "disturbed", kills={"RayTrainWorker": 50})
    assert weights(last_checkpoint(tmp_path / "disturbed")) == weights(last_checkpoint(tmp_path / "undisturbed"))


@pytest.mark.parametrize(
    ("room", "workers", "device", "least", "expected"),
    [
        (Room(8, 0, 8, 0, attached=False), 3, "auto", 0, WorkerResources(3, 2.0, 0.0)),
        (Room(8, 2, 8, 2, attached=True), 2, "auto", 0, WorkerResources(2, 1.0, 1.0)),
        (Room(8, 2, 8, 2, attached=False), 2, "cpu", 0, WorkerResources(2, 4.0, 0.0)),
        (Room(2, 0, 2, 0, attached=True), 5, "auto", 2, WorkerResources(5, 1.0, 0.0, min_workers=2)),
        (Room(2, 0, 2, 0, attached=True), 5, "auto", 3, "min_workers must be <= 2 here, got 3"),
        (Room(8, 2, 8, 2, attached=False), 3, "cuda", 0, "workers must be <= 2 here, got 3"),
    ],
)
def test_resources(room: Room, workers: int, device: str, least: int, expected: WorkerResources | str) -> None:
    experiment = Experiment(name="any", workers=workers, min_workers=least, device=device)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            training_resources(room, experiment)
    else:
        assert training_resources(room, experiment) == expected


@pytest.mark.parametrize("restarted", [True, False])
def test_a_restarted_worker_resumes_the_runs_last_checkpoint(
    restarted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the one the run was started from: the final weights would be the same, only later."""
    import ray.train
    import ray.train.torch

    last = ray.train.Checkpoint.from_directory(str(tmp_path)) if restarted else None
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: last)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: "cpu")
    monkeypatch.setattr(trainer, "train_worker", lambda task, *_, **__: task.resume)
    config = {"task": Task({}, "", "", "", resume="a donor's"), "threads": 1, "progress_actor": None, "alone": True}
    assert trainer.train_loop_per_worker(config) == (str(tmp_path) if restarted else "a donor's")


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """fake_ray(f): `fit` calls f instead of a TorchTrainer's fit."""

    def install(fit_trainer: Callable[[], Any]) -> None:
        monkeypatch.setattr(progress_actor, "open_progress_actor", lambda: None)
        monkeypatch.setattr(progress_actor, "newest_figures", lambda _: {})
        monkeypatch.setattr(trainer, "make_trainer", lambda *_, **__: SimpleNamespace(fit=fit_trainer))

    return install


@pytest.mark.parametrize(
    ("config", "metric", "mode", "best"),
    [("grammar", "generation_perplexity", "min", 1), ("grammar-sentiment", "transfer_score", "max", 2)],
)
def test_the_better_checkpoints_are_kept_and_the_best_returned(
    config: str, metric: str, mode: str, best: int, tmp_path: Path, fake_ray: Callable[[Callable[[], Any]], None]
) -> None:
    task = Task(flatten(preset(config)), "", "", "")
    kept = make_trainer(task, ONE, "run", tmp_path).run_config.checkpoint_config
    assert (kept.checkpoint_score_attribute, kept.checkpoint_score_order, kept.num_to_keep) == (metric, mode, 2)
    (tmp_path / "training.json").write_text(json.dumps({"unsent": [["loss", 0.5, 1000, 24]]}))
    scored = [(SimpleNamespace(path=str(i)), {metric: score}) for i, score in enumerate((3.0, 2.0, 4.0))]
    ended = SimpleNamespace(return_value={}, best_checkpoints=scored, checkpoint=SimpleNamespace(path=str(tmp_path)))
    fake_ray(lambda: ended)
    result = fit(task, ONE, "run", tmp_path, lambda _: None)
    assert result.checkpoint == Path(str(best)) and result.metrics == scored[best][1]
    assert result.unsent == [["loss", 0.5, 1000, 24]] and result.diverged == ""
    diverged = {"diverged": "loss is not finite"}
    fake_ray(lambda: SimpleNamespace(return_value=diverged, best_checkpoints=[], checkpoint=None))
    assert fit(task, ONE, "run", tmp_path, lambda _: None) == TrainingResult(diverged, None, "loss is not finite")


@pytest.mark.parametrize("lost", [2, 3])
def test_a_lost_controllers_resources_are_released_before_the_next_one_starts(
    lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_ray: Callable[[Callable[[], Any]], None]
) -> None:
    """If the lost controller has reserved everything, the workers of the next one would wait for ever. There are as
    many restarts as max_failures."""
    from ray.exceptions import RayActorError

    happened = list[str]()

    def fit_or_be_lost() -> Any:
        happened.append("begun")
        if happened.count("begun") <= lost:
            raise RayActorError
        return SimpleNamespace(return_value={"step": 24}, best_checkpoints=[], checkpoint=None)

    fake_ray(fit_or_be_lost)
    monkeypatch.setattr(trainer, "release_resources", lambda: happened.append("released"))
    task = Task(flatten(preset("grammar")) | {"max_failures": 2}, "", "", "")
    if lost == 2:
        assert fit(task, ONE, "run", tmp_path, lambda _: None).metrics == {"step": 24}
    else:
        with pytest.raises(FailedError, match="controller was lost 3 times"):
            fit(task, ONE, "run", tmp_path, lambda _: None)
    assert happened == ["begun", "released", "begun", "released", "begun"]
