"""Ray Train for real: several workers, killed workers, killed and repeated runs. Weights are compared bit for bit."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arae_core.runtime.parallel import Parallel
from arae_core.settings.tree import flatten
from pipelines.experiment.errors import FailedError
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Experiment
from pipelines.runtime.cluster import Room
from pipelines.training.trainer import Outcome, Share, drop_unfinished, fit, make_trainer, release_resources, share_of
from pipelines.training.worker import Metrics, Task, work
from tests.pipelines.small import descendants, last_checkpoint, step_of, weights

Make = Callable[..., Task]
ONE = Share(workers=1, cpus=1, gpus=0)


def alone(task: Task, folder: Path) -> Path:
    """The last checkpoint of the same training in this process, disturbed by nothing."""
    import shutil

    def report(metrics: Metrics, checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.rmtree(folder / "kept", ignore_errors=True)
        shutil.copytree(checkpoint, folder / "kept")

    work(task, Parallel(), report)
    return folder / "kept"


def run(task: Task, share: Share, storage: Path, name: str = "run", kill: str = "") -> Outcome:
    """Train with Ray; SIGKILL the last process named like `kill` once the first checkpoint is committed."""
    killed: list[int] = []

    def show(figures: Metrics) -> None:
        if kill and not killed and figures.get("step", 0) > figures.get("evaluation", {}).get("step", 10**9):
            killed.extend([pid for pid, line in descendants(os.getpid()) if kill in line][-1:])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    outcome = fit(task, share, name, storage, show)
    assert bool(killed) == bool(kill)
    return outcome


@pytest.mark.parametrize("process", ["RayTrainWorker", "TrainController"])
def test_a_killed_process_changes_nothing(process: str, make_task: Make, room: Room, tmp_path: Path) -> None:
    task = make_task(**{"iterations": 600, "evaluate_every": 100, "log_every": 10})
    outcome = run(task, ONE, tmp_path, kill=process)
    lasting = last_checkpoint(tmp_path / "run")
    assert step_of(lasting) == 600
    assert weights(lasting) == weights(alone(replace(task, run_id=make_task("alone").run_id), tmp_path))
    assert outcome.metrics["step"] % 100 == 0 and outcome.checkpoint is not None


def test_the_best_evaluation_is_the_outcome(make_task: Make, room: Room, tmp_path: Path) -> None:
    from pipelines.tracking.store import connect

    task = make_task()
    outcome = run(task, ONE, tmp_path)
    history = connect(task.tracking_uri).get_metric_history(task.run_id, "generation_perplexity")
    best = min(history, key=lambda point: point.value)
    assert outcome.metrics["generation_perplexity"] == pytest.approx(best.value)
    assert outcome.checkpoint is not None and step_of(outcome.checkpoint) == best.step
    # the same name again: nothing is left to do
    again = run(task, ONE, tmp_path)
    assert again.metrics["generation_perplexity"] == outcome.metrics["generation_perplexity"]


def test_divergence_comes_back_as_a_message(make_task: Make, room: Room, tmp_path: Path) -> None:
    rates: dict[str, Any] = {f"{part}.learning_rate": 1e38 for part in ("encoder", "decoder")}
    outcome = run(make_task(**rates), ONE, tmp_path)
    assert "not finite" in outcome.diverged
    assert outcome.checkpoint is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_of_two_changes_nothing(make_task: Make, room: Room, tmp_path: Path) -> None:
    two = Share(workers=2, cpus=1, gpus=0)
    long = {"iterations": 600, "evaluate_every": 100, "log_every": 10}
    run(make_task("left", **long), two, tmp_path, "left alone")
    run(make_task("disturbed", **long), two, tmp_path, "disturbed", kill="RayTrainWorker")
    assert weights(last_checkpoint(tmp_path / "disturbed")) == weights(last_checkpoint(tmp_path / "left alone"))


def asked(workers: int, device: str, least: int = 0) -> Experiment:
    return Experiment(name="any", workers=workers, min_workers=least, device=device)


def test_shares() -> None:
    assert share_of(Room(8, 0, 8, 0, attached=False), asked(3, "auto")) == Share(3, 2.0, 0.0)
    assert share_of(Room(8, 2, 8, 2, attached=True), asked(2, "auto")) == Share(2, 1.0, 1.0)
    assert share_of(Room(8, 2, 8, 2, attached=False), asked(2, "cpu")) == Share(2, 4.0, 0.0)
    assert share_of(Room(2, 0, 2, 0, attached=True), asked(5, "auto", least=2)) == Share(5, 1.0, 0.0, fewest=2)
    with pytest.raises(ValueError, match="min_workers must be <= 2 here, got 3"):
        share_of(Room(2, 0, 2, 0, attached=True), asked(5, "auto", least=3))
    with pytest.raises(ValueError, match="workers must be <= 2 here, got 3"):
        share_of(Room(8, 2, 8, 2, attached=False), asked(3, "cuda"))


@pytest.mark.parametrize("restarted", [True, False])
def test_a_restarted_worker_goes_on_from_the_runs_last_checkpoint(
    restarted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not from what the run was started from: the weights at its end would be the same, only later."""
    import ray.train
    import ray.train.torch

    from pipelines.training import trainer

    last = ray.train.Checkpoint.from_directory(str(tmp_path)) if restarted else None
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: last)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: "cpu")
    monkeypatch.setattr(trainer, "work", lambda task, *_, **__: task.resume)
    task = Task({}, "", "", "", resume="a donor's")
    found = trainer.train_worker({"task": task, "threads": 1, "board": None, "alone": True})
    assert found == (str(tmp_path) if restarted else "a donor's")


@pytest.mark.parametrize(
    ("config", "metric", "best"), [("grammar", "generation_perplexity", 1), ("grammar-sentiment", "transfer_score", 2)]
)
def test_the_best_of_the_evaluations_that_are_kept_and_what_was_not_sent(
    config: str, metric: str, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from pipelines.runtime import progress_actor
    from pipelines.training import trainer

    (tmp_path / "training.json").write_text(json.dumps({"unsent": [["loss", 0.5, 1000, 24]]}))
    scored = [(SimpleNamespace(path=str(i)), {metric: score}) for i, score in enumerate((3.0, 2.0, 4.0))]
    ended = SimpleNamespace(return_value={}, best_checkpoints=scored, checkpoint=SimpleNamespace(path=str(tmp_path)))
    monkeypatch.setattr(ray, "get", lambda notes: notes)
    monkeypatch.setattr(
        progress_actor, "open_progress_actor", lambda: SimpleNamespace(read=SimpleNamespace(remote=dict))
    )
    monkeypatch.setattr(trainer, "make_trainer", lambda *_, **__: SimpleNamespace(fit=lambda: ended))
    outcome = fit(Task(flatten(preset(config)), "", "", ""), ONE, "run", tmp_path, lambda _: None)
    assert outcome.checkpoint == Path(str(best)) and outcome.metrics == scored[best][1]
    assert outcome.unsent == [["loss", 0.5, 1000, 24]]


@pytest.mark.parametrize(
    ("config", "selection"),
    [("grammar", ("generation_perplexity", "min")), ("grammar-sentiment", ("transfer_score", "max"))],
)
def test_the_better_checkpoints_are_kept(config: str, selection: tuple[str, str], tmp_path: Path) -> None:
    kept = make_trainer(Task(flatten(preset(config)), "", "", ""), ONE, "run", tmp_path).run_config.checkpoint_config
    assert (kept.checkpoint_score_attribute, kept.checkpoint_score_order) == selection and kept.num_to_keep == 2


def test_of_a_cluster_only_the_own_room_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the controller was lost: what others have reserved there stays theirs."""
    import ray

    placement_group = import_module("ray.util.placement_group")  # of which a function has the name, too
    own, others = "02000000", "01000000"
    states = ((own, "CREATED"), (others, "CREATED"), (own, "REMOVED"), (own, "PENDING"))
    room = {f"{i:028x}{job}": {"state": state} for i, (job, state) in enumerate(states)}
    removed = list[Any]()
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: own))
    monkeypatch.setattr(placement_group, "placement_group_table", lambda: room)
    monkeypatch.setattr(placement_group, "remove_placement_group", lambda group: removed.append(group.id.hex()))
    release_resources()
    assert removed == [f"{i:028x}{own}" for i in (0, 3)]


@pytest.mark.parametrize("lost", [2, 3])
def test_the_room_of_a_lost_controller_is_given_back_before_another_begins(
    lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all is reserved by the one that is lost, the next one's workers would wait for ever. After so many as
    max_failures says there is no next one."""
    import ray
    from ray.exceptions import RayActorError

    from pipelines.runtime import progress_actor
    from pipelines.training import trainer

    happened = list[str]()
    ended = SimpleNamespace(return_value={"step": 24}, best_checkpoints=[], checkpoint=None)

    def fit_or_be_lost() -> Any:
        happened.append("begun")
        if happened.count("begun") <= lost:
            raise RayActorError
        return ended

    monkeypatch.setattr(ray, "get", lambda notes: notes)
    monkeypatch.setattr(
        progress_actor, "open_progress_actor", lambda: SimpleNamespace(read=SimpleNamespace(remote=dict))
    )
    monkeypatch.setattr(trainer, "make_trainer", lambda *_, **__: SimpleNamespace(fit=fit_or_be_lost))
    monkeypatch.setattr(trainer, "release_resources", lambda: happened.append("given back"))
    task = Task(flatten(preset("grammar")) | {"max_failures": 2}, "", "", "")
    if lost == 2:
        assert fit(task, ONE, "run", tmp_path, lambda _: None).metrics == {"step": 24}
    else:
        with pytest.raises(FailedError, match="controller was lost again and again"):
            fit(task, ONE, "run", tmp_path, lambda _: None)
    assert happened == ["begun", "given back", "begun", "given back", "begun"]


def test_checkpoints_that_ray_knows_of_stay(tmp_path: Path) -> None:
    for name in ("checkpoint_1", "checkpoint_2", "workers"):
        (tmp_path / name).mkdir()
    known = [{"checkpoint_dir_name": "checkpoint_1", "metrics": {}}]
    (tmp_path / "checkpoint_manager_snapshot.json").write_text(json.dumps({"checkpoint_results": known}))
    drop_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["checkpoint_1", "workers"]
