"""Classifiers with few labels: every method with every number of labels and every seed, each a task of Ray."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arae_core.config import Head
from pipelines.engine.cluster import Room, check_fits, use_gpu
from pipelines.engine.records import read_record, write_record
from pipelines.engine.trainer import FailedError, Share
from pipelines.experiment.settings import Classification, Data, Experiment

CHOSEN_ON = 3000
"""Validation examples that choose the evaluation whose weights are kept."""

Row = dict[str, Any]
"""A classifier: "method", "labels", "seed", "step" of its best evaluation, and its accuracies there, in percent."""


@dataclass(frozen=True)
class Cell:
    """One classifier of the table."""

    method: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.labels}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What all of them have in common. Plain values."""

    settings: Mapping[str, Any]
    """Dotted name -> value, of the whole Classification."""
    corpus: str
    """Folder that `corpora.prepare` made, of the sentences without labels."""
    labelled: str
    """Folder that `corpora.prepare_labelled` made."""
    classes: tuple[str, ...]
    sentences: int
    """In an example."""
    folder: str
    tracking_uri: str
    experiment: str
    """MLflow's."""
    run_id: str
    """The MLflow run that those of the classifiers are children of."""


def classification_of(flat: Mapping[str, Any]) -> Classification:
    """The Classification with these settings (dotted name -> value). Raises ValueError where they are not valid."""
    from arae_core.tree import with_settings

    any_valid = Classification(name=flat["name"], data=Data(label="tense"))
    return with_settings(any_valid, flat)


def settings_of(experiment: Classification, method: str, seed: int) -> Experiment:
    """What the autoencoder of a method is trained with."""
    plain = replace(experiment.without_labels, seed=seed)
    return replace(plain, critic=replace(plain.critic, objective="none")) if method != "arae" else plain


def share_of(room: Room, cells: int, device: str) -> Share:
    """What each classifier gets: a GPU where there are any, else the CPUs of a private cluster in equal parts."""
    gpus = 1.0 if use_gpu(device, room) else 0.0
    check_fits(room, 1, 1, gpus)
    at_once = max(1, min(cells, room.count(1, gpus)))
    return Share(1, 1.0 if room.attached else max(1.0, room.cpus // at_once), gpus)


def steps_of(experiment: Experiment, head: Head, sentences: int) -> tuple[int, int]:
    """The iteration at which the supervised steps begin, and the last."""
    from arae_core.training import total_iterations

    end = total_iterations(experiment, sentences)
    return round(head.start * end), end


def train_autoencoder(method: str, seed: int, plan: Plan, cpus: float, device: str, board: Any) -> str | None:
    """Train the autoencoder that all classifiers of a method and a seed start from, or go on with it: its checkpoint.

    None where they start from nothing: of method supervised, and where head.start is 0.
    """
    import torch

    from arae_core.checkpoint import load_checkpoint, save_checkpoint
    from arae_core.state import TrainingState
    from arae_core.training import train
    from pipelines.engine.worker import core_settings
    from pipelines.experiment.corpora import Corpus
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    torch.set_num_threads(max(1, int(cpus)))
    experiment, corpus = classification_of(plan.settings), Corpus.load(Path(plan.corpus))
    asked, store = settings_of(experiment, method, seed), corpus.store("train")
    begin, _ = steps_of(asked, experiment.head, len(store))
    if method == "supervised" or begin == 0:
        return None
    name = f"{method}-{seed}"
    folder = Path(plan.folder, "autoencoders", name)
    settings = core_settings(asked)
    if (folder / "manifest.json").is_file():
        state, _, _ = load_checkpoint(folder, device, settings=settings)
    else:
        state = TrainingState.new(settings, corpus.shape, device)
    params = {**plan.settings, "method": method, "seed": seed}
    run_id = start_or_resume_child(plan.tracking_uri, plan.experiment, plan.run_id, name, params=params)
    tracker = Tracker(plan.tracking_uri, run_id)
    every = experiment.evaluate_every
    for report in train(state, store, until=begin, every=min(experiment.log_every, every)):
        tracker.log(report.step, report.scalars)
        board.pin.remote(name, {"step": report.step, "end": begin})
        if report.step % every == 0 or report.step == begin:
            save_checkpoint(folder, state, corpus.vocabulary)
            tracker.flush()  # only now: what a lost process does again is not in MLflow
    tracker.finish()
    return str(folder)


def train_cell(cell: Cell, plan: Plan, autoencoder: str | None, cpus: float, device: str, board: Any) -> Row:
    """Train one classifier, keep it as it was at its best evaluation, and write its row beside it.

    autoencoder: the checkpoint to start from, if any.
    """
    import torch

    from arae_core.batches import TokenStore
    from arae_core.checkpoint import load_checkpoint
    from arae_core.classification import SentenceClassifier, train_classifier
    from arae_core.labelled import load_labelled
    from arae_core.state import TrainingState
    from pipelines.engine.worker import core_settings
    from pipelines.experiment.corpora import Corpus
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    torch.set_num_threads(max(1, int(cpus)))
    experiment = classification_of(plan.settings)
    asked = settings_of(experiment, cell.method, cell.seed)
    corpus, folder = Corpus.load(Path(plan.corpus)), Path(plan.labelled)
    store = corpus.store("train")
    assert isinstance(store, TokenStore)
    train, validation, test = (load_labelled(folder / split) for split in ("train", "validation", "test"))
    some = train.of(train.balanced(cell.labels, cell.seed))
    chosen_on = validation.of(validation.drawn(CHOSEN_ON, 0))
    run_id = start_or_resume_child(
        plan.tracking_uri,
        plan.experiment,
        plan.run_id,
        cell.name,
        params={**plan.settings, "method": cell.method, "labels": cell.labels, "seed": cell.seed},
    )
    tracker = Tracker(plan.tracking_uri, run_id)
    if autoencoder is None:
        state = TrainingState.new(core_settings(asked), corpus.shape, device)
    else:
        state, _, _ = load_checkpoint(Path(autoencoder), device, settings=core_settings(asked))
    classifier = SentenceClassifier.new(state, experiment.head, plan.sentences, plan.classes, corpus.vocabulary)
    begin, end = steps_of(asked, experiment.head, len(store))
    state.step, every = begin, experiment.evaluate_every
    best: tuple[float, int, dict[str, Any]] = (-1.0, 0, {})
    unlabelled = store if cell.method != "supervised" and experiment.head.joint else None
    try:
        for report in train_classifier(classifier, some, unlabelled, until=end, every=min(experiment.log_every, every)):
            tracker.log(report.step, report.scalars)
            board.pin.remote(cell.name, {"step": report.step - begin, "end": end - begin})
            if report.step % every == 0 or report.step == end:
                accuracy = classifier.accuracy(chosen_on)
                tracker.log(report.step, {"validation_accuracy": 100 * accuracy})
                tracker.flush()
                if accuracy > best[0]:
                    best = accuracy, report.step, classifier.weights()
    except FloatingPointError as error:
        tracker.finish("FAILED")
        return _row(cell, {"diverged": str(error), "run_id": run_id})
    classifier.load_weights(best[2])
    figures = {"validation": 100 * best[0], "test": 100 * classifier.accuracy(test)}
    tracker.log(best[1], {f"best_{name}_accuracy": value for name, value in figures.items()})
    tracker.finish()
    row = _row(cell, {**figures, "step": best[1], "run_id": run_id})
    target = Path(plan.folder, "classifiers", cell.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as scratch:
        classifier.save(Path(scratch, "whole"))
        shutil.rmtree(target, ignore_errors=True)  # of a task that was lost after it had written this
        Path(scratch, "whole").rename(target)
    write_record(result_file(plan.folder, cell), row)
    return row


def _row(cell: Cell, figures: Row) -> Row:
    return {"method": cell.method, "labels": cell.labels, "seed": cell.seed, **figures}


def result_file(folder: str | Path, cell: Cell) -> Path:
    """Where a finished classifier's row is kept."""
    return Path(folder, "results", f"{cell.name}.json")


def train_cells(
    cells: Sequence[Cell],
    plan: Plan,
    room: Room,
    started: Callable[[str, int], None],
    ended: Callable[[Row], None],
    progress: Callable[[float], None],
) -> list[Row]:
    """Train all that have no result yet, in the cluster that runs, as many at once as fit; a row for each.

    started: called with method and seed once the autoencoder is there that their classifiers start from. ended: called
    with each row, those of before included. progress: with the iterations that are done, a share of 1.

    Raises FailedError where one cannot be trained; the others' results stay.
    """
    import ray

    from pipelines.engine.board import open_board

    experiment = classification_of(plan.settings)
    rows = {cell: row for cell in cells if (row := read_record(result_file(plan.folder, cell))) is not None}
    for row in rows.values():
        ended(row)
    left = [cell for cell in cells if cell not in rows]
    share, board = share_of(room, len(left), experiment.device), open_board()
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": experiment.max_failures}
    first: Any = ray.remote(train_autoencoder).options(**options)
    then: Any = ray.remote(train_cell).options(**options)
    where = (share.cpus, "cuda" if share.gpus else "cpu", board)
    starts = {start: first.remote(*start, plan, *where) for start in dict.fromkeys((c.method, c.seed) for c in left)}
    running = {then.remote(cell, plan, starts[cell.method, cell.seed], *where): cell for cell in left}
    before = [f"{method}-{seed}" for method, seed in starts]
    learning = {reference: start for start, reference in starts.items()}
    while running:
        ready, _ = ray.wait([*running, *learning], timeout=0.5)
        for reference in ready:
            try:
                value = ray.get(reference)
            except ray.exceptions.RayError as error:
                what = running[reference].name if reference in running else "-".join(map(str, learning[reference]))
                raise FailedError(f"{what}: {_first_line(error)}; the others' results are kept") from None
            if reference in learning:
                started(*learning.pop(reference))
            else:
                rows[running.pop(reference)] = value
                ended(value)
        notes = ray.get(board.read.remote())
        under_way = [notes[name] for name in (*(cell.name for cell in running.values()), *before) if name in notes]
        done = len(rows) + sum(note["step"] / note["end"] for note in under_way)
        progress(done / (len(cells) + len(before)))
    return [rows[cell] for cell in cells]


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean and spread over seeds: a row for each method and number of labels; "spread" is the standard deviation."""
    import numpy as np

    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if "test" in row:
            groups.setdefault((row["method"], row["labels"]), []).append(row)
    return [
        {
            "method": method,
            "labels": labels,
            "seeds": len(group),
            "test": float(np.mean([row["test"] for row in group])),
            "spread": float(np.std([row["test"] for row in group], ddof=1)) if len(group) > 1 else None,
            "validation": float(np.mean([row["validation"] for row in group])),
        }
        for (method, labels), group in groups.items()
    ]


def keep_best(rows: Sequence[Row], folder: Path) -> Path | None:
    """The classifier with the best validation accuracy, which alone is kept of all that lies in the folder."""
    found = [row for row in rows if "validation" in row]
    if not found:
        return None
    best = max(found, key=lambda row: float(row["validation"]))
    name = Cell(best["method"], best["labels"], best["seed"]).name
    for other in (folder / "classifiers").iterdir():
        if other.name != name:
            shutil.rmtree(other)
    shutil.rmtree(folder / "autoencoders", ignore_errors=True)
    return folder / "classifiers" / name


__all__ = ["Cell", "Plan", "keep_best", "summary", "train_cells"]
