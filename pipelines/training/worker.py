"""The one worker: what every process that trains does, started by Ray Train, by a Tune trial, or by both.

It trains to the next evaluation, scores samples, saves a checkpoint, reports, and so on to the end. Whoever starts it
says what `report` means. Everything that it must know is in a Task of plain values.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.settings import experiment_of
from pipelines.sweeps.search_space import with_tuples

if TYPE_CHECKING:
    from arae_core.runtime.parallel import Parallel

WORST = {"min": 1e9, "max": 0.0}
"""What a trial whose loss is no longer finite scores: worse than any model, and a number that Ray Tune can sort."""

Metrics = dict[str, Any]
Report = Callable[[Metrics, Path | None], None]
Progress = Callable[[Metrics], None]


def ignore(figures: Metrics) -> None:
    """A Progress for when nobody watches."""


def never() -> bool:
    """Whether to leave, for where nobody says."""
    return False


@dataclass(frozen=True)
class Task:
    """What one worker has to do. Plain values: it is pickled on its way there."""

    settings: Mapping[str, Any]
    """Dotted name -> value, of the whole Experiment."""
    corpus: str
    """Folder that `corpora.prepare` made."""
    tracking_uri: str
    run_id: str
    """The MLflow run that rank 0 writes to."""
    trial: str = "train"
    """Who trains, in the checkpoint's lineage."""
    searched: Mapping[str, Any] = field(default_factory=dict)
    """Those of the settings that a search has chosen."""
    resume: str | None = None
    """Checkpoint folder to go on from: this run's own, or under PBT another trial's."""
    unsent: Sequence[Any] = ()
    """Points of its own that this run has not sent, where it goes on from another's checkpoint."""
    lives: Sequence[tuple[int, str]] = ()
    """See pipelines/sweeps/pbt_history.py."""


def read_trainer_state(checkpoint: Path) -> Metrics:
    """What a worker kept beside the weights: metrics, lineage, unsent."""
    return dict(json.loads((checkpoint / "training.json").read_text(encoding="utf-8")))


def work(
    task: Task,
    parallel: "Parallel",
    report: Report,
    *,
    device: str = "cpu",
    progress: Progress = ignore,
    leaving: Callable[[], bool] = never,
) -> Metrics:
    """Train to the end and return the last metrics reported.

    report: called by every rank alike after each evaluation; rank 0 passes metrics and a checkpoint folder that is
    gone afterwards, the others {} and None. progress: called by rank 0 with the newest figures. leaving: called by
    every rank alike every `log_every` iterations; whether a machine is about to go. Then a checkpoint is reported at
    once, without an evaluation.

    A loss that is not finite ends the training: metrics with "diverged" (what happened) and the worst score are
    reported without a checkpoint, so that the last good one stays. A run that is complete already reports once.
    """
    from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
    from arae_core.training.loop import total_iterations, train
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.tracking.runs import Tracker
    from pipelines.training.scoring import Scorer

    experiment = experiment_of(task.settings)
    settings = experiment.core
    corpus = Corpus.load(Path(task.corpus))
    store, vocabulary = corpus.store("train"), corpus.vocabulary
    extra: dict[str, Any] = {}
    if task.resume is None:
        state = TrainingState.new(settings, corpus.spec, device)
    else:
        state, _, extra = load_checkpoint(Path(task.resume), device, settings=settings)
    first = parallel.rank == 0
    before = extra.get("lineage", [])
    lineage = extend_lineage(before, task, state.step)
    own = bool(before) and before[-1][0] == task.trial  # not a donor's
    unsent = (extra["unsent"] if own else task.unsent) if first else ()  # only rank 0 logs
    # whatever this goes on from, one may have been here, lost after it sent points and before its checkpoint counted
    tracker = Tracker(task.tracking_uri, task.run_id, unsent, resumed=first, lineages=task.lives)
    if first:
        tracker.tag({"precision_used": state.precision})  # which `auto` is, depends on the machine
    if first and before and len(lineage) > len(before):
        tracker.log(state.step, {f"pbt/{k}": v for k, v in task.searched.items() if isinstance(v, (int, float))})
    end = total_iterations(settings, len(store))
    scorer = Scorer(experiment, corpus) if first else None
    evaluation: Metrics = extra.get("metrics", {})
    about = {"experiment": dict(task.settings), "data_fingerprint": corpus.fingerprint, "run_id": task.run_id}

    def send(values: Metrics, checkpoint: Path | None = None) -> None:
        values["run_id"] = task.run_id
        report(values if first else {}, checkpoint)

    def keep(folder: str) -> Path:
        kept = {"metrics": evaluation, "lineage": lineage, "unsent": tracker.unsent()}
        return save_checkpoint(Path(folder, "checkpoint"), state, vocabulary, kept, about)

    left = False

    if state.step >= end:  # killed between its last checkpoint and its end, or cloned from a donor that was done
        with tempfile.TemporaryDirectory() as folder:
            kept = extra | {"unsent": tracker.unsent()}
            copy = save_checkpoint(Path(folder, "checkpoint"), state, vocabulary, kept, about) if first else None
            send(evaluation, copy)
    rhythms = experiment.log_every, experiment.evaluate_every
    try:
        # one call for the whole run: what lies on a GPU for it, and what was captured there, is made once
        for point in train(state, store, parallel, until=end, every=rhythms):
            if first:
                tracker.log(point.step, point.scalars)
                progress({**point.scalars, "step": point.step, "end": end, "evaluation": evaluation})
            if point.step % experiment.evaluate_every and point.step < end:
                if not left and leaving():
                    left = True  # until another process goes on from here
                    with tempfile.TemporaryDirectory() as folder:
                        send({"step": point.step, "end": end}, keep(folder) if first else None)
                    tracker.flush()
                continue
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if scorer:
                    scores, samples = scorer.score(state)
                    evaluation = {**point.scalars, **scores, "step": state.step, "end": end}
                    tracker.log(state.step, scores)
                    tracker.artifact(f"samples/{state.step:07d}.txt", samples)
                    checkpoint = keep(folder)
                    tracker.flush()  # only now: what a lost worker does again is not in MLflow. Tune may stop us there
                    progress(evaluation | {"evaluation": evaluation})
                send(evaluation, checkpoint)
    except FloatingPointError as error:  # on every rank alike
        name, mode = experiment.selection
        until = min(end, -(-state.step // experiment.evaluate_every) * experiment.evaluate_every)
        evaluation = {"step": until, "end": end, name: WORST[mode], "diverged": str(error)}
        if first:
            tracker.flush()
        send(evaluation)
        return evaluation
    tracker.flush_with_retry()
    return evaluation


def extend_lineage(lineage: list[Any], task: Task, step: int) -> list[Any]:
    """Who trained with what from which step on: [[trial, step, {name: value}], ...]; a new entry where that changes."""
    searched = dict(task.searched)
    if lineage and lineage[-1][0] == task.trial and with_tuples(lineage[-1][2]) == with_tuples(searched):
        return lineage
    return [*lineage, [task.trial, step, searched]]
