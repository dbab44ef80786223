"""A classifier with few labels, and the autoencoder that it starts from: what a task of Ray does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arae_core.data.atomic import replace_folder_atomically
from arae_core.settings import HeadSettings
from pipelines.experiment.settings import Classification, DataSettings, Experiment
from pipelines.runtime.run_record import write_record

if TYPE_CHECKING:
    from arae_core.classification import SentenceClassifier

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
    from arae_core.settings.tree import with_settings

    any_valid = Classification(name=flat["name"], data=DataSettings(label="tense"))
    return with_settings(any_valid, flat)


def settings_of(experiment: Classification, method: str, seed: int) -> Experiment:
    """What the autoencoder of a method is trained with."""
    plain = replace(experiment.without_labels, seed=seed)
    return replace(plain, critic=replace(plain.critic, objective="none")) if method != "arae" else plain


def steps_of(experiment: Experiment, head: HeadSettings, sentences: int) -> tuple[int, int]:
    """The iteration at which the supervised steps begin, and the last."""
    from arae_core.training.loop import total_iterations

    end = total_iterations(experiment, sentences)
    return round(head.start * end), end


def train_autoencoder(method: str, seed: int, plan: Plan, cpus: float, device: str, board: Any) -> str | None:
    """Train the autoencoder that all classifiers of a method and a seed start from, or go on with it: its checkpoint.

    None where they start from nothing: of method supervised, and where head.start is 0.
    """
    import torch

    from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    torch.set_num_threads(max(1, int(cpus)))
    experiment, corpus = classification_of(plan.settings), Corpus.load(Path(plan.corpus))
    asked, store = settings_of(experiment, method, seed), corpus.store("train")
    begin, _ = steps_of(asked, experiment.head, len(store))
    if method == "supervised" or begin == 0:
        return None
    name = f"{method}-{seed}"
    folder = Path(plan.folder, "autoencoders", name)
    settings = asked.core
    if (folder / "manifest.json").is_file():
        state, _, _ = load_checkpoint(folder, device, settings=settings)
    else:
        state = TrainingState.new(settings, corpus.spec, device)
    params = {**plan.settings, "method": method, "seed": seed}
    run_id = start_or_resume_child(plan.tracking_uri, plan.experiment, plan.run_id, name, params=params)
    tracker = Tracker(plan.tracking_uri, run_id, resumed=True)
    every = experiment.evaluate_every
    for report in train(state, store, until=begin, every=min(experiment.log_every, every)):
        tracker.log(report.step, report.scalars)
        board.pin.remote(name, {"step": report.step, "end": begin})
        if report.step % every == 0 or report.step == begin:
            save_checkpoint(folder, state, corpus.vocabulary)
            tracker.flush()  # only now: what a lost process does again is not in MLflow
    tracker.finish()
    return str(folder)


def learn_classifier(
    cell: Cell, plan: Plan, autoencoder: str | None, device: str, told: Callable[[int, Row], None]
) -> "tuple[SentenceClassifier, Row]":
    """Train one classifier: as it was at its best evaluation, and its figures, "validation", "test" and "step".

    autoencoder: the checkpoint to start from, if any. told: of each report, with the supervised iterations that are
    done and what was measured. Raises FloatingPointError where training diverges.
    """
    from arae_core.classification import SentenceClassifier, train_classifier
    from arae_core.data.batches import TokenStore
    from arae_core.data.labelled import load_labelled
    from arae_core.training.checkpoint import load_checkpoint
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus

    experiment = classification_of(plan.settings)
    asked = settings_of(experiment, cell.method, cell.seed)
    corpus, folder = Corpus.load(Path(plan.corpus)), Path(plan.labelled)
    store = corpus.store("train")
    assert isinstance(store, TokenStore)
    train, validation, test = (load_labelled(folder / split) for split in ("train", "validation", "test"))
    some = train.of(train.balanced(cell.labels, cell.seed))
    chosen_on = validation.of(validation.drawn(CHOSEN_ON, 0))
    if autoencoder is None:
        state = TrainingState.new(asked.core, corpus.spec, device)
    else:
        state, _, _ = load_checkpoint(Path(autoencoder), device, settings=asked.core)
    classifier = SentenceClassifier.new(state, experiment.head, plan.sentences, plan.classes, corpus.vocabulary)
    begin, end = steps_of(asked, experiment.head, len(store))
    state.step, every = begin, experiment.evaluate_every
    best: tuple[float, int, dict[str, Any]] = (-1.0, 0, {})
    unlabelled = store if cell.method != "supervised" and experiment.head.joint else None
    for report in train_classifier(classifier, some, unlabelled, until=end, every=min(experiment.log_every, every)):
        figures: Row = dict(report.scalars)
        if report.step % every == 0 or report.step == end:
            accuracy = classifier.accuracy(chosen_on)
            figures["validation_accuracy"] = 100 * accuracy
            if accuracy > best[0]:
                best = accuracy, report.step, classifier.weights()
        told(report.step, figures)
    classifier.load_weights(best[2])
    return classifier, {"validation": 100 * best[0], "test": 100 * classifier.accuracy(test), "step": best[1]}


def train_cell(cell: Cell, plan: Plan, autoencoder: str | None, cpus: float, device: str, board: Any) -> Row:
    """Train one classifier, keep it as it was at its best evaluation, and write its row beside it.

    autoencoder: the checkpoint to start from, if any.
    """
    import torch

    from pipelines.corpora.corpus import Corpus
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    torch.set_num_threads(max(1, int(cpus)))
    experiment = classification_of(plan.settings)
    asked = settings_of(experiment, cell.method, cell.seed)
    begin, end = steps_of(asked, experiment.head, len(Corpus.load(Path(plan.corpus)).store("train")))
    run_id = start_or_resume_child(
        plan.tracking_uri,
        plan.experiment,
        plan.run_id,
        cell.name,
        params={**plan.settings, "method": cell.method, "labels": cell.labels, "seed": cell.seed},
    )
    tracker = Tracker(plan.tracking_uri, run_id, resumed=True)

    def told(step: int, figures: Row) -> None:
        tracker.log(step, figures)
        board.pin.remote(cell.name, {"step": step - begin, "end": end - begin})
        if "validation_accuracy" in figures:
            tracker.flush()

    try:
        classifier, figures = learn_classifier(cell, plan, autoencoder, device, told)
    except FloatingPointError as error:
        tracker.finish("FAILED")
        return _row(cell, {"diverged": str(error), "run_id": run_id})
    tracker.log(figures["step"], {f"best_{name}_accuracy": figures[name] for name in ("validation", "test")})
    tracker.finish()
    row = _row(cell, {**figures, "run_id": run_id})
    target = Path(plan.folder, "classifiers", cell.name)
    with replace_folder_atomically(target) as new:  # a lost task may have written this one before
        classifier.save(new)
    write_record(result_file(plan.folder, cell), row)
    return row


def _row(cell: Cell, figures: Row) -> Row:
    return {"method": cell.method, "labels": cell.labels, "seed": cell.seed, **figures}


def result_file(folder: str | Path, cell: Cell) -> Path:
    """Where a finished classifier's row is kept."""
    return Path(folder, "results", f"{cell.name}.json")
