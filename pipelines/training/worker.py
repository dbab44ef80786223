"""The worker: the function that every training process runs, started by Ray Train, by a Tune trial, or by both.

It trains to the next evaluation, scores samples, saves a checkpoint, reports it, and continues to the end. The caller
passes the `report` function and a Task of plain values.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.settings import experiment_of
from pipelines.training.evaluation_loop import train_and_evaluate

if TYPE_CHECKING:
    from arae_core.runtime.parallel import Parallel
    from arae_core.training.loop import Report

WORST = {"min": 1e9, "max": 0.0}
"""Score of a diverged trial, for a metric to minimize or maximize: worse than any model's, and Ray Tune can sort it."""

Metrics = dict[str, Any]
ReportCallback = Callable[[Metrics, Path | None], None]
ProgressCallback = Callable[[Metrics], None]


@dataclass(frozen=True)
class Task:
    """The work of one worker. Plain values, because it is pickled on its way to the worker."""

    settings: Mapping[str, Any]
    """All settings of the Experiment: dotted name -> value."""
    corpus: str
    """Folder that `corpora.prepare` made."""
    tracking_uri: str
    run_id: str
    """The MLflow run that rank 0 writes to."""
    trial: str = "train"
    """Name of this training in the checkpoint's lineage."""
    searched: Mapping[str, Any] = field(default_factory=dict)
    """The settings that a search has chosen."""
    resume: str | None = None
    """Checkpoint folder to resume: this run's own, or with PBT another trial's."""
    unsent: Sequence[Any] = ()
    """Points of this run's curves that are not in MLflow yet, if it resumes another trial's checkpoint."""
    lineages: Sequence[tuple[int, str]] = ()
    """See pipelines/sweeps/pbt_history.py."""


def read_trainer_state(checkpoint: Path) -> Metrics:
    """Return what the worker saved beside the weights: metrics, lineage, unsent."""
    return dict(json.loads((checkpoint / "training.json").read_text(encoding="utf-8")))


def train_worker(
    task: Task,
    parallel: "Parallel",
    report: ReportCallback,
    *,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    leaving: Callable[[], bool] | None = None,
) -> Metrics:
    """Train to the end and return the last metrics reported.

    report: called by every rank after each evaluation. Rank 0 passes metrics and a checkpoint folder that is deleted
    afterwards; the other ranks pass {} and None. progress: called by rank 0 with the newest metrics. leaving: called by
    every rank every `log_every` iterations; True if a machine is about to be removed. The worker then reports a
    checkpoint at once, without an evaluation.

    A loss that is not finite ends the training: metrics with "diverged" (the message) and the worst score are reported
    without a checkpoint, so the last good one stays. A run that is already complete reports once.
    """
    from arae_core.training.loop import train

    run = _WorkerRun(task, parallel, report, device, progress, leaving)
    if run.state.step >= run.end:
        run.report_complete()
    intervals = run.experiment.log_every, run.experiment.evaluate_every
    # One call for the whole run: device-resident data and captured CUDA graphs are made once.
    reports = train(run.state, run.store, parallel, until=run.end, every=intervals)
    try:
        train_and_evaluate(
            reports, every=intervals[1], end=run.end, log=run.log, evaluate=run.evaluate, between=run.save_if_leaving
        )
    except FloatingPointError as error:  # raised on every rank
        run.report_divergence(error)
        return run.evaluation
    run.tracker.flush_with_retry()
    return run.evaluation


class _WorkerRun:
    """State of one `train_worker` call, and the steps of its loop."""

    def __init__(
        self,
        task: Task,
        parallel: "Parallel",
        report: ReportCallback,
        device: str,
        progress: ProgressCallback | None,
        leaving: Callable[[], bool] | None,
    ) -> None:
        from arae_core.training.checkpoint import load_checkpoint
        from arae_core.training.loop import total_iterations
        from arae_core.training.state import TrainingState
        from pipelines.corpora.corpus import Corpus
        from pipelines.tracking.runs import Tracker
        from pipelines.training.scoring import Scorer

        self.task, self.report, self.progress, self.leaving = task, report, progress, leaving
        self.experiment = experiment_of(task.settings)
        settings, corpus = self.experiment.core, Corpus.load(Path(task.corpus))
        self.store, self.vocabulary = corpus.store("train"), corpus.vocabulary
        self.extra: dict[str, Any] = {}
        if task.resume is None:
            self.state = TrainingState.new(settings, corpus.spec, device)
        else:
            self.state, _, self.extra = load_checkpoint(Path(task.resume), device, settings=settings)
        self.end = total_iterations(settings, len(self.store))
        self.evaluation: Metrics = self.extra.get("metrics", {})
        self.about = {
            "experiment": dict(task.settings),
            "data_fingerprint": corpus.fingerprint,
            "run_id": task.run_id,
        }
        self.saved_on_leaving = False
        self.first = parallel.rank == 0
        before = self.extra.get("lineage", [])
        self.lineage = extend_lineage(before, task, self.state.step)
        own = bool(before) and before[-1][0] == task.trial  # otherwise the checkpoint is a donor's
        unsent = (self.extra["unsent"] if own else task.unsent) if self.first else ()  # only rank 0 logs
        # resumed: an earlier worker may have sent points and been lost before its checkpoint counted
        self.tracker = Tracker(task.tracking_uri, task.run_id, unsent, resumed=self.first, lineages=task.lineages)
        self.scorer = Scorer(self.experiment, corpus) if self.first else None
        if self.first:
            self.tracker.tag({"precision_used": self.state.precision})  # `auto` depends on the machine
            if before and len(self.lineage) > len(before):
                numbers = {k: v for k, v in task.searched.items() if isinstance(v, (int, float))}
                self.tracker.log(self.state.step, {f"pbt/{name}": value for name, value in numbers.items()})

    def log(self, point: "Report") -> None:
        """Log the scalars of a report."""
        if self.first:
            self.tracker.log(point.step, point.scalars)
            self._show({**point.scalars, "step": point.step, "end": self.end, "evaluation": self.evaluation})

    def evaluate(self, point: "Report") -> None:
        """Score the state, save a checkpoint, and report both."""
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.scorer is not None:
                scores, samples = self.scorer.score(self.state)
                self.evaluation = {**point.scalars, **scores, "step": self.state.step, "end": self.end}
                self.tracker.log(self.state.step, scores)
                self.tracker.artifact(f"samples/{self.state.step:07d}.txt", samples)
                checkpoint = self._save(folder)
                # Not before the checkpoint: a lost worker repeats what followed the last one. Not after the report:
                # Ray Tune may stop the worker there.
                self.tracker.flush()
                self._show(self.evaluation | {"evaluation": self.evaluation})
            self._send(self.evaluation, checkpoint)

    def save_if_leaving(self, point: "Report") -> None:
        """Report a checkpoint without an evaluation if a machine is about to be removed."""
        if self.saved_on_leaving or self.leaving is None or not self.leaving():
            return
        self.saved_on_leaving = True  # another process will resume from here
        with tempfile.TemporaryDirectory() as folder:
            self._send({"step": point.step, "end": self.end}, self._save(folder) if self.first else None)
        self.tracker.flush()

    def report_complete(self) -> None:
        """Report a run that was killed between its last checkpoint and its end, or cloned from a finished donor."""
        with tempfile.TemporaryDirectory() as folder:
            self._send(self.evaluation, self._save(folder, self.extra) if self.first else None)

    def report_divergence(self, error: FloatingPointError) -> None:
        """Report the worst score at the step of the next evaluation: schedulers compare trials by step."""
        every, (metric, mode) = self.experiment.evaluate_every, self.experiment.selection
        step = min(self.end, -(-self.state.step // every) * every)
        self.evaluation = {"step": step, "end": self.end, metric: WORST[mode], "diverged": str(error)}
        if self.first:
            self.tracker.flush()
        self._send(self.evaluation)

    def _save(self, folder: str, extra: Mapping[str, Any] | None = None) -> Path:
        from arae_core.training.checkpoint import save_checkpoint

        values = {"metrics": self.evaluation, "lineage": self.lineage} if extra is None else dict(extra)
        values["unsent"] = self.tracker.unsent()
        return save_checkpoint(Path(folder, "checkpoint"), self.state, self.vocabulary, values, self.about)

    def _send(self, metrics: Metrics, checkpoint: Path | None = None) -> None:
        metrics["run_id"] = self.task.run_id
        self.report(metrics if self.first else {}, checkpoint)

    def _show(self, metrics: Metrics) -> None:
        if self.progress is not None:
            self.progress(metrics)


def extend_lineage(lineage: list[Any], task: Task, step: int) -> list[Any]:
    """Return the lineage with an entry for this task, unless its last entry has the same trial and settings.

    A lineage lists who trained with which searched settings from which step on: [[trial, step, {name: value}], ...]. It
    is stored as JSON, which holds lists where settings hold tuples.
    """
    searched = dict(task.searched)
    if lineage and lineage[-1][0] == task.trial and lineage[-1][2] == json.loads(json.dumps(searched)):
        return lineage
    return [*lineage, [task.trial, step, searched]]
