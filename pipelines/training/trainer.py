"""Ray Train around the worker: N processes, restarts from the last checkpoint, resuming by name."""

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import Experiment, experiment_of
from pipelines.runtime.cluster import Room, attached, check_fits, check_precision, use_gpu
from pipelines.training.worker import Metrics, Task, work

RESIZE_SECONDS = 30.0
"""How often a training with fewer workers than it may have looks for room for more."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    metrics: Metrics
    """Of the best evaluation, by the selection metric."""
    checkpoint: Path | None
    """Of that evaluation; None where there was none."""
    diverged: str = ""
    """What was not finite, if anything."""
    unsent: Sequence[Any] = ()
    """Points of the curves that its worker could not send to MLflow, and perhaps some that it could."""


@dataclass(frozen=True)
class Share:
    """What each worker of a training gets."""

    workers: int
    cpus: float
    gpus: float
    fewest: int = 0
    """Workers that the training starts with where there is no room for all; 0: it waits for all of them."""

    def __str__(self) -> str:
        count = f"{self.fewest} to {self.workers}" if self.fewest else str(self.workers)
        return f"{count} worker" + ("s" if self.workers > 1 else "")


def share_of(room: Room, experiment: Experiment) -> Share:
    """All of a private cluster, evenly; of one that others use, too, a CPU each. ValueError where that does not fit."""
    workers, fewest = experiment.workers, experiment.min_workers
    gpus = 1.0 if use_gpu(experiment.device, room) else 0.0
    check_fits(room, fewest or workers, 1, gpus, name="min_workers" if fewest else "workers")
    check_precision(room, experiment, gpus)
    return Share(workers, 1.0 if room.attached else max(1.0, room.cpus // workers), gpus, fewest)


def make_trainer(
    task: Task,
    share: Share,
    name: str,
    storage: Path,
    *,
    board: Any = None,
    callbacks: list[Any] | None = None,
    in_trial: bool = False,
) -> Any:
    """A TorchTrainer of `work`, whose checkpoints lie in storage/name. The same name goes on where it stopped.

    in_trial: Ray Tune copies every checkpoint and decides what to keep; here none may go while it is being copied.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import ScalingConfig  # which ray.train's is, but not for a type checker

    class Undisturbed(TorchTrainer):
        """Without Ray's cleaner after dead controllers: on a busy machine it takes a slow one for dead and ends its
        workers. A private cluster goes with its driver and leaves nothing to clean.
        """

        def _create_default_callbacks(self) -> list[Any]:
            kept = super()._create_default_callbacks()  # type: ignore[misc]
            return [callback for callback in kept if type(callback).__name__ != "PlacementGroupCleanerCallback"]

    trainer = TorchTrainer if in_trial or attached() else Undisturbed
    experiment = experiment_of(task.settings)
    metric, mode = experiment.selection
    keep = CheckpointConfig(num_to_keep=2, checkpoint_score_attribute=metric, checkpoint_score_order=mode)
    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    workers = (share.fewest, share.workers) if share.fewest and not in_trial else share.workers
    return trainer(
        train_worker,
        train_loop_config={"task": task, "threads": max(1, int(share.cpus)), "board": board, "alone": not attached()},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=share.gpus > 0,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=experiment.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=4) if in_trial else keep,
            callbacks=callbacks,
        ),
    )


def train_worker(config: dict[str, Any]) -> Any:
    """What each of Ray Train's workers runs: its Metrics, of which rank 0's come back."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from arae_core.runtime.parallel import Parallel

    torch.set_num_threads(config["threads"])
    task, board = config["task"], config["board"]

    def report(metrics: Metrics, folder: Path | None) -> None:
        ray.train.report(metrics, ray.train.Checkpoint.from_directory(str(folder)) if folder else None)

    def leaving() -> bool:
        return not config["alone"] and ray.train.get_preemption_info() is not None

    def progress(figures: Metrics) -> None:
        if board is not None:
            board.pin.remote(task.trial, figures)

    with ExitStack() as stack:
        last = ray.train.get_checkpoint()  # of this very run, after a restart: newer than what it was started from
        if last is not None:
            task = replace(task, resume=stack.enter_context(last.as_directory()))
        where, device = Parallel.from_process_group(), str(get_device())
        return work(task, where, report, device=device, progress=progress, leaving=leaving)


def fit(task: Task, share: Share, name: str, storage: Path, show: Callable[[Metrics], None]) -> Outcome:
    """Train in the cluster that runs; `show` gets the newest figures a few times a second, in this thread.

    Raises FailedError, with the worker's own error, where restarts did not help.
    """
    import ray
    from ray.exceptions import RayActorError
    from ray.train import TrainingFailedError

    from pipelines.runtime.progress_actor import open_progress_actor

    board = open_progress_actor()
    drop_unfinished(storage / name)
    ended: dict[str, Any] = {}

    def run() -> None:
        # Ray restarts lost workers, but the controller that does so is lost for good: under the same name, another one
        # goes on from the last checkpoint.
        for left in reversed(range(experiment_of(task.settings).max_failures + 1)):
            try:
                ended["result"] = make_trainer(task, share, name, storage, board=board).fit()
                return
            except RayActorError as error:
                if not left:
                    ended["error"] = FailedError(f"the training's controller was lost again and again: {error}")
                    return
                release_resources()
            except BaseException as error:
                ended["error"] = error
                return

    # Not in the main thread, where Ray would take Ctrl-C for itself: it is noticed here, and Ray shut down behind it.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with _told_to_stop() as told:
        while thread.is_alive() and not told.is_set():
            thread.join(0.3)
            show(ray.get(board.read.remote()).get(task.trial, {}))
    if told.is_set():
        raise KeyboardInterrupt
    error = ended.get("error")
    if isinstance(error, TrainingFailedError):
        why = reason(error)
        raise FailedError(f"training failed for good: {why}{storage_advice(why, storage / name)}") from error
    if error is not None:
        raise error
    result = ended["result"]
    last: Metrics = result.return_value or {}
    metric, mode = experiment_of(task.settings).selection
    scored = [(checkpoint, metrics) for checkpoint, metrics in result.best_checkpoints if metric in metrics]
    if not scored:
        return Outcome(last, None, str(last.get("diverged", "")))
    newest = json.loads(Path(result.checkpoint.path, "training.json").read_text(encoding="utf-8"))
    checkpoint, metrics = (min if mode == "min" else max)(scored, key=lambda pair: float(pair[1][metric]))
    return Outcome(metrics, Path(checkpoint.path), str(last.get("diverged", "")), newest["unsent"])


def drop_unfinished(folder: Path) -> None:
    """Delete the checkpoints of a run that were being written when its process or its disk ended: Ray Train knows of
    them no more, and would leave them there."""
    known = folder / "checkpoint_manager_snapshot.json"
    text = known.read_text(encoding="utf-8") if known.exists() else ""
    for checkpoint in folder.glob("checkpoint_*/"):
        if checkpoint.name not in text:
            shutil.rmtree(checkpoint, ignore_errors=True)


def storage_advice(why: str, folder: Path) -> str:
    """What to do about a disk that is full or may not be written to, if that is what it was."""
    if not any(sign in why for sign in ("No space left", "Read-only file system", "Disk quota", "Permission denied")):
        return ""
    return f". What {folder} held before is kept: make room there or make it writable, then the same command goes on"


def release_resources() -> None:
    """Give back what a lost controller of this driver had reserved: nobody else does, or not for long."""
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    for name, group in placement_group_table().items():
        if group["state"] != "REMOVED" and name.endswith(job):  # a group's number ends with that of its driver
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Whether Ctrl-C was pressed or the job stopped (SIGTERM) meanwhile. As an exception it would break up Ray's calls
    in any place."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reason(error: Any) -> str:
    """The last line of the error that workers of Ray Train ended with."""
    failures = getattr(error, "worker_failures", {})
    texts = [str(failure).strip() for failure in failures.values()] or [str(error).strip()]
    return (texts[0].splitlines() or [type(error).__name__])[-1]
