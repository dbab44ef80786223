"""A trial of several workers: a driver that runs a TorchTrainer and passes its reports, one by one, to Ray Tune.

Ray's own TuneReportCallback passes metrics without a checkpoint, so population based training never exploits, and does
not say so. Here a queue of length one carries both, and training waits until Tune has seen each report.
"""

import shutil
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import experiment_of
from pipelines.runtime.ray_internals import set_environment
from pipelines.sweeps.trial import TrialPlan
from pipelines.training.trainer import make_trainer, worker_error


def drive_trial(config: dict[str, Any], plan: TrialPlan) -> None:
    """Drive a trial of several workers. The workers reserve their CPUs themselves; the driver reserves none."""
    set_environment(attached=True)  # the processes of a private cluster inherit the environment of its driver
    from ray import tune
    from ray.train import TrainingFailedError, UserCallback
    from ray.util.queue import Empty, Queue

    class Forward(UserCallback):
        """Callback of the training's controller that puts every report into the queue once its checkpoint is saved."""

        def __init__(self, queue: Any) -> None:
            self.queue = queue

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            self.queue.put((dict(metrics[0]), checkpoint.path if checkpoint else None))

    trial, metric = tune.get_context().get_trial_id(), experiment_of(plan.task.settings).selection[0]
    storage = Path(plan.folder, "workers")
    for left in storage.glob(f"{trial}-*"):  # from before this trial was stopped; Tune has copies of its checkpoints
        shutil.rmtree(left, ignore_errors=True)
    # A new name at every start: under the old name, Ray would resume the run's own checkpoint and not the donor's.
    name = f"{trial}-{uuid.uuid4().hex[:8]}"
    queue = Queue(1, actor_options={"num_cpus": 0})
    ended: dict[str, BaseException] = {}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, storage / name, ignore_errors=True)
        last = tune.get_checkpoint()
        folder = stack.enter_context(last.as_directory()) if last is not None else None
        task = plan.task_of(trial, config, plan.newest_checkpoint(trial, folder))
        trainer = make_trainer(task, plan.resources, name, storage, callbacks=[Forward(queue)], in_trial=True)

        def fit() -> None:
            try:
                trainer.fit()
            except BaseException as error:
                ended["error"] = error

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while True:
            over = not thread.is_alive()  # before the queue is read: the last report may arrive in between
            try:
                metrics, path = queue.get(timeout=0.5)
            except Empty:
                if over:
                    break
                continue
            if metric not in metrics:  # a checkpoint saved before a machine is removed; only the workers need it
                continue
            tune.report(metrics, checkpoint=tune.Checkpoint(path) if path else None)
        queue.shutdown()
        error = ended.get("error")
        if isinstance(error, TrainingFailedError):
            raise FailedError(f"the workers failed: {worker_error(error)}") from error
        if error is not None:
            raise error
