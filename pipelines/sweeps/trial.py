"""One trial of a sweep: the worker, with the settings that the search has chosen, in the trial's own process."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.experiment.settings import Experiment
from pipelines.runtime.cluster import Room, check_fits, check_precision, use_gpu
from pipelines.sweeps.pbt_history import begin_lineage, unsent_points
from pipelines.training.resources import WorkerResources
from pipelines.training.worker import Metrics, Task, extend_lineage, read_trainer_state, train_worker


@dataclass(frozen=True)
class TrialPlan:
    """Facts that all trials of a sweep share. Plain values, because it is pickled on its way to the trials."""

    task: Task
    """Task without searched values. Its `run_id` is the sweep's; the run of each trial is a child of it."""
    experiment: str
    """Name of the MLflow experiment."""
    resources: WorkerResources
    folder: str
    """Absolute path of the sweep's folder."""
    exchanged: bool = False
    """True if trials continue from each other's checkpoints, as in population based training."""

    def newest_checkpoint(self, trial: str, given: str | None) -> str | None:
        """Return the checkpoint to resume: the one given by Ray Tune, or a newer one of the trial's own.

        Tune forgets the newest checkpoints if it is killed before it writes its state.
        """
        from arae_core.training.checkpoint import read_manifest

        if self.exchanged:
            return given
        steps = {}
        for folder in (*Path(self.folder, trial).glob("checkpoint_*"), *([Path(given)] if given else [])):
            with suppress(ValueError, OSError):  # an incomplete checkpoint
                steps[str(folder)] = int(read_manifest(folder)["step"])
        best = max(steps, key=lambda name: steps[name], default=given)
        return given if given and steps.get(given) == steps.get(str(best)) else best

    def task_of(self, trial: str, config: Mapping[str, Any], resume: str | None) -> Task:
        """Return the task of a trial; start its MLflow run, or find it again by its tag."""
        from arae_core.training.checkpoint import read_manifest
        from pipelines.tracking.runs import start_or_resume_child

        settings = {**self.task.settings, **config}
        run_id = start_or_resume_child(
            self.task.tracking_uri, self.experiment, self.task.run_id, trial, params=settings
        )
        task = replace(self.task, settings=settings, searched=dict(config), trial=trial, run_id=run_id, resume=resume)
        if not self.exchanged:
            return task
        start = Path(resume) if resume else None
        before, step = (read_trainer_state(start)["lineage"], int(read_manifest(start)["step"])) if start else ([], 0)
        folder = Path(self.folder, trial)
        lineages = begin_lineage(folder, extend_lineage(before, task, step))
        return replace(task, unsent=unsent_points(folder), lineages=lineages)


def run_trial(config: dict[str, Any], plan: TrialPlan) -> None:
    """Run a trial of one worker. Ray Tune may stop it in any report and restart it from any trial's checkpoint."""
    import torch
    from ray import tune

    from arae_core.runtime.parallel import Parallel

    torch.set_num_threads(max(1, int(plan.resources.cpus)))

    def report(metrics: Metrics, folder: Path | None) -> None:
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(folder)) if folder else None)

    with ExitStack() as stack:
        last = tune.get_checkpoint()
        folder = stack.enter_context(last.as_directory()) if last is not None else None
        trial = tune.get_context().get_trial_id()
        task = plan.task_of(trial, config, plan.newest_checkpoint(trial, folder))
        train_worker(task, Parallel(), report, device="cuda" if plan.resources.gpus else "cpu")


def trial_resources(room: Room, experiment: Experiment, gpus_per_trial: float) -> WorkerResources:
    """Give each worker of a sweep's trial one CPU, and an equal part of the trial's GPUs.

    gpus_per_trial: 0: one GPU a worker if there are any. Raise ValueError if not even one trial fits.
    """
    workers = experiment.workers
    if gpus_per_trial and experiment.device == "cpu":
        raise ValueError(f"--gpus-per-trial must be 0 with device cpu, got {gpus_per_trial:g}")
    if gpus_per_trial and workers > 1 and not (gpus_per_trial / workers).is_integer():
        raise ValueError(
            f"--gpus-per-trial must be a multiple of workers ({workers}), got {gpus_per_trial:g}: a worker of several "
            "needs whole GPUs"
        )
    gpus = gpus_per_trial / workers if gpus_per_trial else float(use_gpu(experiment.device, room))
    check_fits(room, workers, 1, gpus)
    check_precision(room, experiment, gpus)
    return WorkerResources(workers, 1.0, gpus)
