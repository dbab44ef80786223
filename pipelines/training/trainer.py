"""Ray Train around the worker: N processes that restart from the last checkpoint and resume by name."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import experiment_of
from pipelines.runtime.cluster import attached
from pipelines.runtime.ray_internals import drop_unfinished, release_resources, without_cleaner
from pipelines.training.resources import WorkerResources
from pipelines.training.worker import Metrics, Task, read_trainer_state, train_worker

RESIZE_SECONDS = 30.0
"""Interval at which a training with fewer workers than `workers` looks for room for more."""
NOT_WRITABLE = ("No space left", "Read-only file system", "Disk quota", "Permission denied")
"""Parts of the messages of a disk that is full or read-only."""


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    metrics: Metrics
    """Metrics of the best evaluation, by the selection metric."""
    checkpoint: Path | None
    """Checkpoint of the best evaluation; None if there was no evaluation."""
    diverged: str = ""
    """Message of a loss that was not finite; "" if training did not diverge."""
    unsent: Sequence[Any] = ()
    """Points of the curves that the worker had not sent to MLflow at the last checkpoint."""


def make_trainer(
    task: Task,
    resources: WorkerResources,
    name: str,
    storage: Path,
    *,
    progress_actor: Any = None,
    callbacks: list[Any] | None = None,
    in_trial: bool = False,
) -> Any:
    """Return a TorchTrainer of `train_worker` with its checkpoints in storage/name. The same name resumes.

    in_trial: Ray Tune copies every checkpoint and decides what to keep, so none is deleted while it is being copied.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import ScalingConfig  # the same as ray.train's, which type checkers do not see

    trainer = TorchTrainer if in_trial or attached() else without_cleaner(TorchTrainer)
    experiment = experiment_of(task.settings)
    metric, mode = experiment.selection
    best_two = CheckpointConfig(num_to_keep=2, checkpoint_score_attribute=metric, checkpoint_score_order=mode)
    threads = max(1, int(resources.cpus))
    config = {"task": task, "threads": threads, "progress_actor": progress_actor, "alone": not attached()}
    elastic = resources.min_workers > 0 and not in_trial
    return trainer(
        train_loop_per_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=(resources.min_workers, resources.workers) if elastic else resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=experiment.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=4) if in_trial else best_two,
            callbacks=callbacks,
        ),
    )


def train_loop_per_worker(config: dict[str, Any]) -> Any:
    """Run `train_worker` in a worker of Ray Train; return its metrics, of which Ray returns rank 0's."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from arae_core.runtime.parallel import Parallel

    torch.set_num_threads(config["threads"])
    task, actor = config["task"], config["progress_actor"]

    def report(metrics: Metrics, folder: Path | None) -> None:
        ray.train.report(metrics, ray.train.Checkpoint.from_directory(str(folder)) if folder else None)

    def leaving() -> bool:
        return not config["alone"] and ray.train.get_preemption_info() is not None

    def progress(metrics: Metrics) -> None:
        if actor is not None:
            actor.update.remote(task.trial, metrics)

    with ExitStack() as stack:
        last = ray.train.get_checkpoint()  # of this run after a restart: newer than the one it was started from
        if last is not None:
            task = replace(task, resume=stack.enter_context(last.as_directory()))
        parallel, device = Parallel.from_process_group(), str(get_device())
        return train_worker(task, parallel, report, device=device, progress=progress, leaving=leaving)


def fit(
    task: Task, resources: WorkerResources, name: str, storage: Path, show: Callable[[Metrics], None]
) -> TrainingResult:
    """Train in the running cluster. `show` gets the newest metrics a few times a second, in this thread.

    Raise FailedError, with the worker's own error, if restarts did not help.
    """
    from pipelines.runtime.progress_actor import newest_figures, open_progress_actor

    actor = open_progress_actor()
    drop_unfinished(storage / name)
    ended: dict[str, Any] = {}

    def run() -> None:
        try:
            ended["result"] = _fit_with_restarts(
                lambda: make_trainer(task, resources, name, storage, progress_actor=actor),
                experiment_of(task.settings).max_failures,
            )
        except BaseException as error:
            ended["error"] = error

    # In the main thread, Ray would handle Ctrl-C itself. Here it is noticed first, and Ray is shut down afterwards.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with _stop_requested() as stop:
        while thread.is_alive() and not stop.is_set():
            thread.join(0.3)
            show(newest_figures(actor).get(task.trial, {}))
    if stop.is_set():
        raise KeyboardInterrupt
    if "error" in ended:
        _raise_readable(ended["error"], storage / name)
    return _best_result(ended["result"], *experiment_of(task.settings).selection)


def _fit_with_restarts(make: Callable[[], Any], max_failures: int) -> Any:
    """Call make().fit(), again if Ray's training controller was lost.

    Ray restarts lost workers, but not their controller. A new controller under the same name resumes from the last
    checkpoint.
    """
    from ray.exceptions import RayActorError

    for left in reversed(range(max_failures + 1)):
        try:
            return make().fit()
        except RayActorError as error:
            if not left:
                raise FailedError(
                    f"the training's controller was lost {max_failures + 1} times, which exceeds max_failures: {error}"
                ) from error
            release_resources()
    raise AssertionError("max_failures is >= 0")


def _raise_readable(error: BaseException, folder: Path) -> None:
    """Raise the error; that of Ray Train as a FailedError of one line."""
    from ray.train import TrainingFailedError

    if not isinstance(error, TrainingFailedError):
        raise error
    message = worker_error(error)
    advice = ""
    if any(part in message for part in NOT_WRITABLE):
        advice = f". The earlier checkpoints in {folder} are kept: free some space or make it writable, then repeat the"
        advice += " command"
    raise FailedError(f"training failed: {message}{advice}") from error


def _best_result(result: Any, metric: str, mode: str) -> TrainingResult:
    """Return the best evaluation of a result of Ray Train."""
    last: Metrics = result.return_value or {}
    diverged = str(last.get("diverged", ""))
    scored = [(checkpoint, metrics) for checkpoint, metrics in result.best_checkpoints if metric in metrics]
    if not scored:
        return TrainingResult(last, None, diverged)
    checkpoint, metrics = (min if mode == "min" else max)(scored, key=lambda pair: float(pair[1][metric]))
    unsent = read_trainer_state(Path(result.checkpoint.path))["unsent"]
    return TrainingResult(metrics, Path(checkpoint.path), diverged, unsent)


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """Event that Ctrl-C or the end of the job (SIGTERM) sets. An exception could interrupt Ray's calls anywhere."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def worker_error(error: Any) -> str:
    """Return the last line of the error that stopped the workers of Ray Train."""
    failures = getattr(error, "worker_failures", {})
    texts = [str(failure).strip() for failure in failures.values()] or [str(error).strip()]
    return (texts[0].splitlines() or [type(error).__name__])[-1]
