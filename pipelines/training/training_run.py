"""A training to start or to resume: its settings, data and named run, after all checks that need no cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arae_core.settings.tree import flatten
from pipelines.corpora.corpus import Corpus, check_source, prepare
from pipelines.experiment.arguments import Arguments
from pipelines.experiment.settings import Experiment, changeable_on_resume
from pipelines.runtime import cluster
from pipelines.runtime.session import Session, find_run, open_session, resume_command
from pipelines.tracking.store import open_tracking
from pipelines.training.resources import training_resources
from pipelines.training.worker import Task


@dataclass(frozen=True)
class TrainingRun:
    """A training without the cluster that runs it. `session` holds its folder and its MLflow run."""

    experiment: Experiment
    settings: dict[str, Any]
    corpus: Corpus
    session: Session

    @property
    def task(self) -> Task:
        """The task that all workers share."""
        return Task(self.settings, str(self.corpus.folder), self.session.tracking_uri, self.session.run_id)

    def summary(self) -> list[str]:
        """Return lines for people: whether the run is resumed, and its data."""
        return [*self.session.named.notes(), *self.corpus.summary()]


def open_training(arguments: Arguments, storage: Path) -> TrainingRun:
    """Return a new training, or the existing one of that name.

    Raise ValueError for settings or data that cannot work, for more workers than this machine has room for, and for the
    name of a run that has other settings or data.
    """
    experiment, options = arguments.experiment, arguments.options
    named = find_run(storage / "trainings", options.run_name, experiment.name)
    if not cluster.attached():
        training_resources(cluster.this_machine(), experiment)
    settings = flatten(experiment)
    named.check_settings(settings, changeable_on_resume())
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment, storage)
    data = {"data_fingerprint": corpus.fingerprint}
    named.check_data(data)
    record, resume = (
        named.record or {"settings": settings, **data},
        resume_command("train", arguments.words, named.name),
    )
    session = open_session(named, record, uri, settings, {**data, "command": "train"}, storage, resume)
    return TrainingRun(experiment, settings, corpus, session)
