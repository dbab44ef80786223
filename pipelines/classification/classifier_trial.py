"""One classifier with few labels, and the autoencoder that it starts from: the tasks that Ray runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arae_core.data.atomic import replace_folder_atomically
from arae_core.settings import HeadSettings
from pipelines.experiment.settings import Classification, DataSettings, Experiment
from pipelines.runtime.run_record import write_record
from pipelines.training.evaluation_loop import BestWeights, train_and_evaluate

if TYPE_CHECKING:
    from arae_core.classification import SentenceClassifier
    from arae_core.training.loop import Report

CHOSEN_ON = 3000
"""Validation examples whose accuracy decides which evaluation's weights are kept."""

ClassifierRow = dict[str, Any]
"""A classifier: "method", "labels", "seed", "step" of its best evaluation, and its accuracies there, in percent."""


@dataclass(frozen=True)
class ClassifierTrial:
    """One classifier of the table: its method, number of labels and seed."""

    method: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.labels}-{self.seed}"


@dataclass(frozen=True)
class ClassifierPlan:
    """Facts that all classifiers of a table share. Plain values, because it is pickled on its way to the tasks."""

    settings: Mapping[str, Any]
    """All settings of the Classification: dotted name -> value."""
    corpus: str
    """Folder that `corpora.prepare` made of the sentences without labels."""
    labelled: str
    """Folder that `corpora.prepare_labelled` made."""
    classes: tuple[str, ...]
    sentences: int
    """Sentences in an example."""
    folder: str
    """Folder of the results."""
    tracking_uri: str
    experiment: str
    """Name of the MLflow experiment."""
    run_id: str
    """The MLflow run that is the parent of the classifiers' runs."""


def classification_of(flat: Mapping[str, Any]) -> Classification:
    """Return the Classification with these settings (dotted name -> value). Raise ValueError if they are invalid."""
    from arae_core.settings.tree import with_settings
    from arae_core.settings.upgrade import upgraded

    any_valid = Classification(name=flat["name"], data=DataSettings(label="tense"))
    return with_settings(any_valid, upgraded(flat))


def autoencoder_experiment(experiment: Classification, method: str, seed: int) -> Experiment:
    """Return the experiment that trains a method's autoencoder."""
    plain = replace(experiment.without_labels, seed=seed)
    return replace(plain, critic=replace(plain.critic, objective="none")) if method != "arae" else plain


def steps_of(experiment: Experiment, head: HeadSettings, sentences: int) -> tuple[int, int]:
    """Return the iteration at which the supervised steps begin, and the last iteration."""
    from arae_core.training.loop import total_iterations

    end = total_iterations(experiment, sentences)
    return round(head.start * end), end


def train_autoencoder(
    method: str, seed: int, plan: ClassifierPlan, cpus: float, device: str, progress_actor: Any
) -> str | None:
    """Train or resume the autoencoder that all classifiers of a method and a seed start from; return its checkpoint.

    Returns None if they start from random weights: for method supervised, and if head.start is 0.
    """
    import torch

    from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    torch.set_num_threads(max(1, int(cpus)))
    classification, corpus = classification_of(plan.settings), Corpus.load(Path(plan.corpus))
    experiment, store = autoencoder_experiment(classification, method, seed), corpus.store("train")
    begin, _ = steps_of(experiment, classification.head, len(store))
    if method == "supervised" or begin == 0:
        return None
    name = f"{method}-{seed}"
    folder = Path(plan.folder, "autoencoders", name)
    if (folder / "manifest.json").is_file():
        state, _, _ = load_checkpoint(folder, device, settings=experiment.core)
    else:
        state = TrainingState.new(experiment.core, corpus.spec, device)
    params = {**plan.settings, "method": method, "seed": seed}
    run_id = start_or_resume_child(plan.tracking_uri, plan.experiment, plan.run_id, name, params=params)
    tracker = Tracker(plan.tracking_uri, run_id, resumed=True)

    def log(report: "Report") -> None:
        tracker.log(report.step, report.scalars)
        progress_actor.update.remote(name, {"step": report.step, "end": begin})

    def save(_: "Report") -> None:
        save_checkpoint(folder, state, corpus.vocabulary)
        tracker.flush()  # not before: a lost process repeats what followed the last checkpoint

    every = classification.evaluate_every
    reports = train(state, store, until=begin, every=min(classification.log_every, every))
    train_and_evaluate(reports, every=every, end=begin, log=log, evaluate=save)
    tracker.finish()
    return str(folder)


def learn_classifier(
    trial: ClassifierTrial,
    plan: ClassifierPlan,
    autoencoder: str | None,
    device: str,
    log: Callable[[int, Mapping[str, float]], object],
) -> "tuple[SentenceClassifier, ClassifierRow]":
    """Train one classifier; return it with its best evaluation's weights, and "validation", "test" and "step".

    autoencoder: the checkpoint to start from, if any. log: called with the step and the scalars of each report, and
    with {"validation_accuracy"} after each evaluation. Raise FloatingPointError if training diverges.
    """
    from arae_core.classification import SentenceClassifier, train_classifier
    from arae_core.data.batches import TokenStore
    from arae_core.data.labelled import load_labelled
    from arae_core.training.checkpoint import load_checkpoint
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus

    classification = classification_of(plan.settings)
    experiment = autoencoder_experiment(classification, trial.method, trial.seed)
    corpus, folder, head = Corpus.load(Path(plan.corpus)), Path(plan.labelled), classification.head
    store = corpus.store("train")
    assert isinstance(store, TokenStore)
    train, validation, test = (load_labelled(folder / split) for split in ("train", "validation", "test"))
    labelled = train.of(train.balanced(trial.labels, trial.seed))
    chosen_on = validation.of(validation.drawn(CHOSEN_ON, 0))
    if autoencoder is None:
        state = TrainingState.new(experiment.core, corpus.spec, device)
    else:
        state, _, _ = load_checkpoint(Path(autoencoder), device, settings=experiment.core)
    classifier = SentenceClassifier.new(state, head, plan.sentences, plan.classes, corpus.vocabulary)
    state.step, end = steps_of(experiment, head, len(store))
    best = BestWeights(better=lambda new, old: new > old)

    def evaluate(report: "Report") -> None:
        accuracy = 100 * classifier.accuracy(chosen_on)
        best.update(report.step, accuracy, classifier.weights)
        log(report.step, {"validation_accuracy": accuracy})

    every = classification.evaluate_every
    unlabelled = store if trial.method != "supervised" and head.joint else None
    reports = train_classifier(classifier, labelled, unlabelled, until=end, every=min(classification.log_every, every))
    train_and_evaluate(
        reports, every=every, end=end, log=lambda report: log(report.step, report.scalars), evaluate=evaluate
    )
    classifier.load_weights(best.weights)
    return classifier, {"validation": best.score, "test": 100 * classifier.accuracy(test), "step": best.step}


def train_classifier_trial(
    trial: ClassifierTrial,
    plan: ClassifierPlan,
    autoencoder: str | None,
    cpus: float,
    device: str,
    progress_actor: Any,
) -> ClassifierRow:
    """Train one classifier, save it as it was at its best evaluation, and write its row beside it.

    autoencoder: the checkpoint to start from, if any.
    """
    import torch

    from pipelines.corpora.corpus import Corpus
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    torch.set_num_threads(max(1, int(cpus)))
    classification = classification_of(plan.settings)
    experiment = autoencoder_experiment(classification, trial.method, trial.seed)
    begin, end = steps_of(experiment, classification.head, len(Corpus.load(Path(plan.corpus)).store("train")))
    row: ClassifierRow = {"method": trial.method, "labels": trial.labels, "seed": trial.seed}
    run_id = start_or_resume_child(
        plan.tracking_uri, plan.experiment, plan.run_id, trial.name, params={**plan.settings, **row}
    )
    row["run_id"] = run_id
    tracker = Tracker(plan.tracking_uri, run_id, resumed=True)

    def log(step: int, metrics: Mapping[str, float]) -> None:
        tracker.log(step, metrics)
        progress_actor.update.remote(trial.name, {"step": step - begin, "end": end - begin})
        if "validation_accuracy" in metrics:
            tracker.flush()

    try:
        classifier, metrics = learn_classifier(trial, plan, autoencoder, device, log)
    except FloatingPointError as error:
        tracker.finish("FAILED")
        return row | {"diverged": str(error)}
    tracker.log(metrics["step"], {f"best_{name}_accuracy": metrics[name] for name in ("validation", "test")})
    tracker.finish()
    row |= metrics
    target = Path(plan.folder, "classifiers", trial.name)
    with replace_folder_atomically(target) as new:  # a lost task may have written this one before
        classifier.save(new)
    write_record(result_file(plan.folder, trial), row)
    return row


def result_file(folder: str | Path, trial: ClassifierTrial) -> Path:
    """Return the file of a finished classifier's row."""
    return Path(folder, "results", f"{trial.name}.json")
