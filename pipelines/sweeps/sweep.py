"""Definition of a sweep, before Ray starts: from the command line, or from the record of a sweep to resume."""

import argparse
import math
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arae_core.settings.tree import flatten
from pipelines.experiment.arguments import Arguments
from pipelines.experiment.environment import command, default_tracking_uri
from pipelines.experiment.settings import Experiment, changeable_on_resume, experiment_of
from pipelines.runtime import cluster
from pipelines.runtime.cluster import Room
from pipelines.runtime.run_record import Record
from pipelines.runtime.session import NamedRun, Session, find_run, open_session
from pipelines.sweeps.search_space import Space, load_space, recorded_space
from pipelines.sweeps.trial import TrialPlan, trial_resources
from pipelines.sweeps.tune_state import can_resume
from pipelines.training.resources import WorkerResources
from pipelines.training.worker import Task

if TYPE_CHECKING:
    from pipelines.corpora.corpus import Corpus


CHANGEABLE_IN_SWEEP = changeable_on_resume() - {"min_workers", "max_failures"}
"""Settings that may differ when a sweep resumes. Ray keeps max_failures with each trial; sweeps have no min_workers."""
OPTIONS = ("space", "trials", "scheduler", "search", "gpus_per_trial", "max_concurrent")


@dataclass(frozen=True)
class Sweep:
    """A sweep without the cluster that runs it."""

    folder: Path
    experiment: Experiment
    space: Space
    options: Record
    """The options named in OPTIONS."""
    corpus: "Corpus"
    tracking_uri: str
    run_id: str
    session: Session | None = field(default=None, compare=False)
    """Holds the sweep's folder and its MLflow run."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def selection(self) -> tuple[str, str]:
        """The metric that selects the best trial, and its mode, min or max."""
        return self.experiment.selection

    @property
    def iterations(self) -> int:
        """Iterations of a trial that is not stopped early."""
        from arae_core.training.loop import total_iterations

        return total_iterations(self.experiment, len(self.corpus.store("train")))

    @property
    def needs_dashboard(self) -> bool:
        """True if trials of several workers may be stopped: Ray asks the dashboard which workers to kill."""
        return self.experiment.workers > 1 and self.options["scheduler"] != "none"

    @property
    def drivers(self) -> int:
        """Number of drivers of multi-worker trials that a private cluster needs room for."""
        if self.experiment.workers == 1 or cluster.attached():
            return 0
        return self.concurrent_trials(cluster.this_machine())

    def resources(self, room: Room) -> WorkerResources:
        """Return the resources of a trial's workers. Raise ValueError if not even one trial fits."""
        return trial_resources(room, self.experiment, float(self.options["gpus_per_trial"]))

    def concurrent_trials(self, room: Room) -> int:
        """Return how many trials run at a time."""
        resources = self.resources(room)
        fit = cluster.check_fits(room, resources.workers, resources.cpus, resources.gpus)
        return min(fit, int(self.options["trials"]), int(self.options["max_concurrent"]) or fit)

    def plan(self, room: Room) -> TrialPlan:
        """Return the plan that all trials share."""
        task = Task(flatten(self.experiment), str(self.corpus.folder), self.tracking_uri, self.run_id)
        exchanged = self.options["scheduler"] == "pbt"
        return TrialPlan(task, f"arae-{self.experiment.name}", self.resources(room), str(self.folder), exchanged)


def resume_command(name: str, tracking_uri: str, options: argparse.Namespace) -> str:
    """Return the command that resumes a sweep."""
    words = [*command("tune"), "--resume", name, "--storage", str(options.storage)]
    if tracking_uri != default_tracking_uri():
        words += ["--tracking-uri", tracking_uri]
    return shlex.join(words + (["--json"] if options.json else []))


def open_sweep(arguments: Arguments, storage: Path) -> Sweep:
    """Return a new sweep, or the existing one of that name, after all checks that need no cluster.

    Raise ValueError for settings that do not fit together, for an unknown sweep to resume, and for the name of a sweep
    that has other settings.
    """
    from pipelines.corpora.corpus import check_source, prepare
    from pipelines.tracking.store import open_tracking

    options = arguments.options
    if options.resume:
        named, record = _recorded(options.resume, storage)
        _check_resumed(arguments, record)
        return _reopened(arguments, named, record, storage, arguments.given.get("workers"))
    experiment = arguments.experiment
    space = load_space(options.space, experiment)
    chosen: Record = {name: getattr(options, name) for name in OPTIONS}
    _check(experiment, chosen)
    named = find_run(storage / "sweeps", options.run_name, f"{experiment.name}-{options.space}", "sweep")
    settings = flatten(experiment)
    if named.record is not None:  # the same command again, as a job that is submitted again
        named.check_settings(settings | chosen, CHANGEABLE_IN_SWEEP)
        return _reopened(arguments, named, named.record, storage, experiment.workers)
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment, storage)
    record = {"settings": settings, "space": space, "options": chosen, "data_fingerprint": corpus.fingerprint}
    return _opened(arguments, named, record | {"tracking_uri": uri}, storage, experiment, space, corpus)


def _opened(
    arguments: Arguments,
    named: NamedRun,
    record: Record,
    storage: Path,
    experiment: Experiment,
    space: Space,
    corpus: "Corpus",
) -> Sweep:
    """Return the sweep of `record`, with its folder locked and its MLflow run open.

    Raise ValueError if another process holds the folder, or if Ray Tune cannot resume from what lies there.
    """
    options, uri = record["options"], record["tracking_uri"]
    session = open_session(
        named,
        record,
        uri,
        record["settings"] | options,
        {"data_fingerprint": corpus.fingerprint, "command": "tune"},
        storage,
        resume_command(named.name, uri, arguments.options),
        has_trials=True,
        check=lambda: can_resume(named.folder),  # before Ray starts
    )
    return Sweep(named.folder, experiment, space, options, corpus, uri, session.run_id, session)


def _reopened(arguments: Arguments, named: NamedRun, record: Record, storage: Path, workers: int | None) -> Sweep:
    """Return the sweep of a record. workers: of a trial; None: as before. MLflow may have moved meanwhile.

    The record may be one of an earlier version: settings are stored again under today's names.
    """
    from pipelines.corpora.corpus import Corpus, prepare

    title, before = named.title, record["settings"]["workers"]
    workers = workers or before
    if (workers == 1) != (before == 1):
        allowed = "1" if before == 1 else "2 or more"
        raise ValueError(f"workers must be {allowed} in {title}, as at its start, got {workers}")
    experiment = experiment_of(record["settings"] | {"workers": workers})
    settings, space = flatten(experiment), recorded_space(record["space"])
    for name in space:
        if name not in settings:
            raise ValueError(f"{title} searches {name}, which is no setting of this version; start a new sweep")
    _check(experiment, record["options"])
    uri = _tracking_of(arguments, record, title)
    corpus_folder = storage / "data" / record["data_fingerprint"]
    corpus = Corpus.load(corpus_folder) if corpus_folder.exists() else prepare(experiment, storage)
    named.check_data({"data_fingerprint": corpus.fingerprint})
    record = record | {"settings": settings, "tracking_uri": uri}
    return _opened(arguments, named, record, storage, experiment, space, corpus)


def _tracking_of(arguments: Arguments, record: Record, title: str) -> str:
    """Return the tracking URI of a resumed sweep: the user's, else the recorded one.

    Raise ValueError if the sweep's run is not there: the runs of its trials would not be found, and logged twice.
    """
    from pipelines.tracking.status import has_run
    from pipelines.tracking.store import open_tracking, sqlite_file

    before, run_id = record["tracking_uri"], record["run_id"]
    named = "tracking_uri" in arguments.typed or os.environ.get("MLFLOW_TRACKING_URI")
    uri = arguments.options.tracking_uri if named else before
    file = sqlite_file(uri)
    if file is None or file.exists():
        uri = open_tracking(uri)
        if has_run(uri, run_id):
            return uri
    if uri == before:
        advice = "restore it, or start the sweep anew under another --run-name"
    else:
        advice = f"it was at {before}: omit --tracking-uri (and $MLFLOW_TRACKING_URI), or give its new address"
    raise ValueError(f"--tracking-uri {uri} does not have run {run_id} of {title}; {advice}")


def _check_resumed(arguments: Arguments, record: Record) -> None:
    """Raise ValueError, naming the first, for an option beside --resume that differs from the record."""
    about = "--resume uses the settings and options of the sweep: omit"
    for name in arguments.given:
        if name not in CHANGEABLE_IN_SWEEP:
            raise ValueError(f"{about} --{name}")
    was = {**record["options"], "run_name": arguments.options.resume, "config": record["settings"]["name"]}
    now = {**vars(arguments.options), "config": arguments.experiment.name}
    for name, value in was.items():
        if name in arguments.typed and now[name] != value:
            raise ValueError(f"{about} --{name.replace('_', '-')}, which was {value!r} and is {now[name]!r}")


def _recorded(name: str, storage: Path) -> tuple[NamedRun, Record]:
    named = NamedRun.read(storage / "sweeps" / name, "sweep")
    if named.record is None:
        names = sorted(path.parent.name for path in storage.glob("sweeps/*/sweep.json"))
        raise ValueError(f"--resume {name}: no such sweep in {storage}; there are: {', '.join(names) or 'none'}")
    return named, named.record


def _check(experiment: Experiment, options: Record) -> None:
    if options["trials"] < 1:
        raise ValueError(f"--trials must be >= 1, got {options['trials']}")
    if options["max_concurrent"] < 0:
        raise ValueError(f"--max-concurrent must be >= 0, got {options['max_concurrent']}")
    if not 0 <= options["gpus_per_trial"] < math.inf:
        raise ValueError(f"--gpus-per-trial must be >= 0, got {options['gpus_per_trial']:g}")
    if experiment.min_workers:
        raise ValueError(
            f"min_workers must be 0 in a sweep, got {experiment.min_workers}: a trial waits for all its workers"
        )
    if options["scheduler"] == "pbt":
        for flag, wrong, why in (
            ("--trials", options["trials"] < 2, "be >= 2 with --scheduler pbt: trials learn from each other"),
            ("--max-concurrent", options["max_concurrent"] > 0, "be 0 with --scheduler pbt: it limits the population"),
            (
                "--search",
                options["search"] != "random",
                "be random with --scheduler pbt, which chooses the settings itself",
            ),
        ):
            if wrong:
                raise ValueError(f"{flag} must {why}")
    if not cluster.attached():
        trial_resources(cluster.this_machine(), experiment, float(options["gpus_per_trial"]))
