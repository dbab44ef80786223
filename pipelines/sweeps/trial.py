"""One trial of a sweep: the worker with the settings that the search has chosen, in the trial's own process."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.sweeps.pbt_history import begin, unsent_of
from pipelines.training.trainer import Share
from pipelines.training.worker import Metrics, Task, extend_lineage, read_trainer_state, work


@dataclass(frozen=True)
class Plan:
    """What all trials of a sweep have in common. Plain values."""

    task: Task
    """`run_id` is the sweep's; each trial has its own, a child of it."""
    experiment: str
    """MLflow's experiment."""
    share: Share
    folder: str
    """The sweep's, absolute."""
    exchanged: bool = False
    """Whether trials go on from each other's checkpoints, as in population based training."""

    def newest(self, trial: str, given: str | None) -> str | None:
        """The checkpoint that a trial goes on from: the one that Ray Tune gives it, or a newer one of its own, which
        Tune has forgotten where it was killed before it wrote its state."""
        from arae_core.training.checkpoint import read_manifest

        if self.exchanged:
            return given
        steps = {}
        for folder in (*Path(self.folder, trial).glob("checkpoint_*"), *([Path(given)] if given else [])):
            with suppress(ValueError, OSError):  # not written to its end
                steps[str(folder)] = int(read_manifest(folder)["step"])
        best = max(steps, key=lambda name: steps[name], default=given)
        return given if given and steps.get(given) == steps.get(str(best)) else best

    def task_of(self, trial: str, config: Mapping[str, Any], resume: str | None) -> Task:
        """A trial's own task; its MLflow run is started, or found again by its tag."""
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
        return replace(task, unsent=unsent_of(folder), lives=begin(folder, extend_lineage(before, task, step)))


def run_trial(config: dict[str, Any], plan: Plan) -> None:
    """A trial of one worker. Ray Tune may stop it in any report and start it again, from a checkpoint of any trial."""
    import torch
    from ray import tune

    from arae_core.runtime.parallel import Parallel

    torch.set_num_threads(max(1, int(plan.share.cpus)))

    def report(metrics: Metrics, folder: Path | None) -> None:
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(str(folder)) if folder else None)

    with ExitStack() as stack:
        last = tune.get_checkpoint()
        folder = stack.enter_context(last.as_directory()) if last is not None else None
        trial = tune.get_context().get_trial_id()
        task = plan.task_of(trial, config, plan.newest(trial, folder))
        work(task, Parallel(), report, device="cuda" if plan.share.gpus else "cpu")
