"""A table of classifiers to train or to resume: its data and named run, after all checks that need no cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arae_core.settings.tree import flatten
from pipelines.classification.classifier_trial import ClassifierPlan, ClassifierTrial
from pipelines.classification.semi_supervised import classifier_resources
from pipelines.classification.table import check_start, describe_split, label_counts
from pipelines.corpora.corpus import Corpus, check_source, prepare, prepare_labelled
from pipelines.corpora.preparation import SPLITS
from pipelines.experiment.arguments import Arguments
from pipelines.experiment.settings import BUILT_IN, Classification
from pipelines.runtime import cluster
from pipelines.runtime.session import Session, find_run, open_session, resume_command
from pipelines.tracking.store import open_tracking


@dataclass(frozen=True)
class ClassificationRun:
    """Classifiers without the cluster that trains them. `session` holds their folder and their MLflow run.

    labelled, report: folder and report of the labelled examples, see `prepare_labelled`.
    """

    experiment: Classification
    corpus: Corpus
    labelled: Path
    report: dict[str, Any]
    trials: list[ClassifierTrial]
    session: Session

    @property
    def plan(self) -> ClassifierPlan:
        """The plan that all classifiers share."""
        return ClassifierPlan(
            flatten(self.experiment),
            str(self.corpus.folder),
            str(self.labelled),
            tuple(self.report["train"]["classes"]),
            self.report["sentences"],
            str(self.session.named.folder),
            self.session.tracking_uri,
            f"arae-{self.experiment.name}",
            self.session.run_id,
        )

    @property
    def is_published(self) -> bool:
        """True if the data may be those of the published table: pairs of sentences that are not built in."""
        return self.experiment.data.source not in BUILT_IN and self.report["sentences"] == 2

    def summary(self) -> list[str]:
        """Return lines for people: whether the run is resumed, and its data."""
        lines = [*self.session.named.notes(), f"without labels: {self.corpus.report['train']['kept']:,} sentences"]
        return lines + [f"labelled, {split}: {describe_split(self.report[split])}" for split in SPLITS]


def open_classification(arguments: Arguments, storage: Path) -> ClassificationRun:
    """Return a new table of classifiers, or the existing one of that name.

    Raise ValueError for settings or data that cannot work, and for the name of a run that has others.
    """
    experiment, options = arguments.experiment, arguments.options
    assert isinstance(experiment, Classification)
    named = find_run(storage / "classifications", options.run_name, experiment.name)
    if not cluster.attached():
        classifier_resources(cluster.this_machine(), 1, experiment)
    settings = flatten(experiment)
    named.check_settings(settings)
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment.without_labels, storage)
    labelled, report = prepare_labelled(experiment, corpus, storage)
    data = {"data": [corpus.fingerprint, labelled.name]}
    named.check_data(data)
    check_start(experiment, corpus.report["train"]["kept"])
    trials = [
        ClassifierTrial(method, count, experiment.seed + i)
        for count in label_counts(options.labels, report["train"]["classes"])
        for method in options.methods
        for i in range(options.seeds)
    ]
    record = named.record or {"settings": settings, **data}
    resume = resume_command("classify", arguments.words, named.name)
    session = open_session(named, record, uri, settings, {"command": "classify"}, storage, resume)
    return ClassificationRun(experiment, corpus, labelled, report, trials, session)
