"""One trial of several workers: a driver that runs a TorchTrainer and hands its reports, one by one, to Ray Tune.

Ray's own bridge (TuneReportCallback) hands over metrics and no checkpoint: population based training then never
exploits, silently. Here a queue of length one carries both, so training waits until Tune has seen each report.
"""

import os
import shutil
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import experiment_of
from pipelines.runtime.cluster import ENVIRONMENT
from pipelines.sweeps.trial import Plan
from pipelines.training.trainer import make_trainer, reason


def drive_trial(config: dict[str, Any], plan: Plan) -> None:
    """A trial of several workers, which take their CPUs themselves; this driver takes none."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray import tune
    from ray.train import TrainingFailedError, UserCallback
    from ray.util.queue import Empty, Queue

    class Forward(UserCallback):
        """In the training's controller: passes on every report, once its checkpoint is in place."""

        def __init__(self, queue: Any) -> None:
            self.queue = queue

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            self.queue.put((dict(metrics[0]), checkpoint.path if checkpoint else None))

    trial, metric = tune.get_context().get_trial_id(), experiment_of(plan.task.settings).selection[0]
    inner = Path(plan.folder, "workers")
    for left in inner.glob(f"{trial}-*"):  # of this trial before it was stopped: Tune has what it reported
        shutil.rmtree(left, ignore_errors=True)
    # A fresh name every time: under the old one the training would go on from its own checkpoint, not the donor's.
    name = f"{trial}-{uuid.uuid4().hex[:8]}"
    queue = Queue(1, actor_options={"num_cpus": 0})
    ended: dict[str, BaseException] = {}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, inner / name, ignore_errors=True)
        last = tune.get_checkpoint()
        folder = stack.enter_context(last.as_directory()) if last is not None else None
        task = plan.task_of(trial, config, plan.newest(trial, folder))
        trainer = make_trainer(task, plan.share, name, inner, callbacks=[Forward(queue)], in_trial=True)

        def fit() -> None:
            try:
                trainer.fit()
            except BaseException as error:
                ended["error"] = error

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while True:
            over = not thread.is_alive()  # asked before the queue: its last report may come just after that was empty
            try:
                metrics, path = queue.get(timeout=0.5)
            except Empty:
                if over:
                    break
                continue
            if metric not in metrics:  # a checkpoint before a machine goes, from which the workers go on by themselves
                continue
            tune.report(metrics, checkpoint=tune.Checkpoint(path) if path else None)
        queue.shutdown()
        error = ended.get("error")
        if isinstance(error, TrainingFailedError):
            raise FailedError(f"the workers failed for good: {reason(error)}") from error
        if error is not None:
            raise error
