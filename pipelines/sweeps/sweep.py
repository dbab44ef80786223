"""What a sweep is, before Ray starts: asked for on the command line, or read back from its record to go on with it."""

import argparse
import math
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arae_core.settings.tree import flatten
from pipelines.cli.command_line import Arguments
from pipelines.experiment.environment import default_tracking_uri, python
from pipelines.experiment.settings import Experiment, experiment_of
from pipelines.runtime import cluster
from pipelines.runtime.cluster import Room
from pipelines.runtime.run_lock import acquire
from pipelines.runtime.run_record import Record, check_name, check_unchanged, read_record, write_record
from pipelines.sweeps.search_space import Space, load_space, recorded_space
from pipelines.sweeps.trial import Plan
from pipelines.training.trainer import Share
from pipelines.training.worker import Task

if TYPE_CHECKING:
    from pipelines.corpora.corpus import Corpus


CHANGEABLE_IN_SWEEP = frozenset({"workers"})
"""Settings that a sweep may go on with others of, as a training may. Ray keeps max_failures with each trial."""
OPTIONS = ("space", "trials", "scheduler", "search", "gpus_per_trial", "max_concurrent")


@dataclass(frozen=True)
class Sweep:
    """Everything that a sweep is, apart from the cluster. `options`: trials, scheduler, search and so on, as typed."""

    folder: Path
    experiment: Experiment
    space: Space
    options: Record
    corpus: "Corpus"
    tracking_uri: str
    run_id: str
    release: Callable[[], None] = field(default=lambda: None, compare=False)
    """Lets go of the folder, which this process holds."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def file(self) -> Path:
        return record_file(self.folder)

    @property
    def selection(self) -> tuple[str, str]:
        """The metric that chooses, and min or max."""
        return self.experiment.selection

    @property
    def iterations(self) -> int:
        """Of a trial that is not stopped."""
        from arae_core.training.loop import total_iterations

        return total_iterations(self.experiment, len(self.corpus.store("train")))

    @property
    def needs_dashboard(self) -> bool:
        """Where a stopped trial leaves workers behind: Ray asks the dashboard which ones to take down."""
        return self.experiment.workers > 1 and self.options["scheduler"] != "none"

    @property
    def drivers(self) -> int:
        """Drivers of multi-worker trials that a private cluster has to take."""
        if self.experiment.workers == 1 or cluster.attached():
            return 0
        return self.at_once(cluster.this_machine())

    def share(self, room: Room) -> Share:
        """What each worker of a trial gets. Raises ValueError where not one trial fits."""
        return _share(self.experiment, self.options, room)

    def at_once(self, room: Room) -> int:
        """How many trials run at a time."""
        share = self.share(room)
        fit = cluster.check_fits(room, share.workers, share.cpus, share.gpus)
        return min(fit, int(self.options["trials"]), int(self.options["max_concurrent"]) or fit)

    def plan(self, room: Room) -> Plan:
        task = Task(flatten(self.experiment), str(self.corpus.folder), self.tracking_uri, self.run_id)
        exchanged = self.options["scheduler"] == "pbt"
        return Plan(task, f"arae-{self.experiment.name}", self.share(room), str(self.folder), exchanged)

    def again(self, options: argparse.Namespace) -> str:
        """The command that goes on with this sweep."""
        words = [python(), "pipelines/tune.py", "--resume", self.name, "--storage", str(options.storage)]
        if self.tracking_uri != default_tracking_uri():
            words += ["--tracking-uri", self.tracking_uri]
        return shlex.join(words + (["--json"] if options.json else []))


def record_file(folder: Path) -> Path:
    return folder / "sweep.json"


def open_sweep(asked: Arguments, storage: Path) -> Sweep:
    """The sweep asked for: a new one, or the one of that name as it was. Checks all that can be checked.

    Raises ValueError for what does not fit together, an unknown sweep to resume, and a name that a sweep with other
    settings has.
    """
    from pipelines.corpora.corpus import check_source, prepare
    from pipelines.tracking.runs import open_tracking, start_parent

    options = asked.options
    if options.resume:
        folder, found = _recorded(options.resume, storage)
        _check_resumed(asked, found)
        return _reopened(asked, folder, found, storage, asked.given.get("workers"))
    experiment = asked.experiment
    space = load_space(options.space, experiment)
    chosen: Record = {name: getattr(options, name) for name in OPTIONS}
    _check(experiment, chosen)
    name = options.run_name or f"{experiment.name}-{options.space}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = storage / "sweeps" / name
    check_name(name)
    settings = flatten(experiment)
    record = read_record(record_file(folder))
    if record is not None:  # the same command again, as a job that is submitted again
        check_unchanged(
            record["settings"] | record["options"], settings | chosen, f"sweep {name}", changeable=CHANGEABLE_IN_SWEEP
        )
        return _reopened(asked, folder, record, storage, experiment.workers)
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment, storage)
    release = acquire(folder, f"sweep {name}")
    tags = {"data_fingerprint": corpus.fingerprint, "command": "tune"}
    params = settings | chosen
    run_id = start_parent(uri, f"arae-{experiment.name}", name, params=params, tags=tags, storage=storage)
    record = {"settings": settings, "space": space, "options": chosen, "data_fingerprint": corpus.fingerprint}
    write_record(record_file(folder), {**record, "tracking_uri": uri, "run_id": run_id})
    return Sweep(folder, experiment, space, chosen, corpus, uri, run_id, release)


def _reopened(asked: Arguments, folder: Path, record: Record, storage: Path, workers: int | None) -> Sweep:
    """The sweep of a record, with so many workers (None: as many as before), and with MLflow where it is now."""
    from pipelines.corpora.corpus import Corpus, prepare
    from pipelines.sweeps.tune_state import can_go_on
    from pipelines.tracking.store import connect

    title, before = f"sweep {folder.name}", record["settings"]["workers"]
    workers = workers or before
    if (workers == 1) != (before == 1):
        allowed = "1" if before == 1 else "2 or more"
        raise ValueError(f"workers must be {allowed} in {title}, as when it began, got {workers}")
    settings = record["settings"] | {"workers": workers}
    experiment = experiment_of(settings)
    _check(experiment, record["options"])
    uri = _tracking_of(asked, record, title)
    corpus_folder = storage / "data" / record["data_fingerprint"]
    corpus = Corpus.load(corpus_folder) if corpus_folder.exists() else prepare(experiment, storage)
    check_unchanged(record, {"data_fingerprint": corpus.fingerprint}, title)
    release = acquire(folder, title)
    try:
        can_go_on(folder)  # told before Ray starts
    except ValueError:
        release()
        raise
    space = recorded_space(record["space"])
    connect(uri).update_run(record["run_id"], status="RUNNING")
    write_record(record_file(folder), record | {"settings": settings, "tracking_uri": uri})
    return Sweep(folder, experiment, space, record["options"], corpus, uri, record["run_id"], release)


def _tracking_of(asked: Arguments, record: Record, title: str) -> str:
    """Where the run of a sweep that is gone on with is: where the user says that MLflow is now, else where it was.

    Raises ValueError where it is not there: trials would be found nowhere, and counted twice elsewhere.
    """
    from pipelines.tracking.status import has_run
    from pipelines.tracking.store import open_tracking, sqlite_file

    before, run_id = record["tracking_uri"], record["run_id"]
    named = "tracking_uri" in asked.typed or os.environ.get("MLFLOW_TRACKING_URI")
    uri = asked.options.tracking_uri if named else before
    file = sqlite_file(uri)
    if file is None or file.exists():
        uri = open_tracking(uri)
        if has_run(uri, run_id):
            return uri
    if uri == before:
        advice = "bring it back, or start the sweep anew under another --run-name"
    else:
        advice = f"it was at {before}: leave out --tracking-uri (and $MLFLOW_TRACKING_URI), or say where it is now"
    raise ValueError(f"--tracking-uri {uri} does not have run {run_id} of {title}; {advice}")


def _check_resumed(asked: Arguments, record: Record) -> None:
    """Raise ValueError, naming the first, for what was typed beside --resume and is not as it was."""
    about = "--resume goes on with everything as it was: leave out"
    for name in asked.given:
        if name not in CHANGEABLE_IN_SWEEP:
            raise ValueError(f"{about} --{name}")
    was = {**record["options"], "run_name": asked.options.resume, "config": record["settings"]["name"]}
    now = {**vars(asked.options), "config": asked.experiment.name}
    for name, value in was.items():
        if name in asked.typed and now[name] != value:
            raise ValueError(f"{about} --{name.replace('_', '-')}, which was {value!r} and is {now[name]!r}")


def _recorded(name: str, storage: Path) -> tuple[Path, Record]:
    folder = storage / "sweeps" / name
    record = read_record(record_file(folder))
    if record is None:
        names = sorted(path.parent.name for path in storage.glob("sweeps/*/sweep.json"))
        raise ValueError(f"--resume {name}: no such sweep in {storage}; there are: {', '.join(names) or 'none'}")
    return folder, record


def _check(experiment: Experiment, options: Record) -> None:
    if options["trials"] < 1:
        raise ValueError(f"--trials must be >= 1, got {options['trials']}")
    if options["max_concurrent"] < 0:
        raise ValueError(f"--max-concurrent must be >= 0, got {options['max_concurrent']}")
    if not 0 <= options["gpus_per_trial"] < math.inf:
        raise ValueError(f"--gpus-per-trial must be >= 0, got {options['gpus_per_trial']:g}")
    if experiment.min_workers:
        raise ValueError(
            f"min_workers must be 0 in a sweep, got {experiment.min_workers}: its trials start when they fit"
        )
    if options["scheduler"] == "pbt":
        for flag, wrong, why in (
            ("--trials", options["trials"] < 2, "be >= 2 with --scheduler pbt: trials learn from each other"),
            ("--max-concurrent", options["max_concurrent"] > 0, "be 0 with --scheduler pbt: it limits the population"),
            ("--search", options["search"] != "random", "be random with --scheduler pbt, which chooses by itself"),
        ):
            if wrong:
                raise ValueError(f"{flag} must {why}")
    if not cluster.attached():
        _share(experiment, options, cluster.this_machine())


def _share(experiment: Experiment, options: Record, room: Room) -> Share:
    workers, gpus = experiment.workers, float(options["gpus_per_trial"])
    if gpus and experiment.device == "cpu":
        raise ValueError(f"--gpus-per-trial must be 0 with device cpu, got {gpus:g}")
    if gpus and workers > 1 and not (gpus / workers).is_integer():
        raise ValueError(f"--gpus-per-trial must be a multiple of workers ({workers}), got {gpus:g}: each has its own")
    each = gpus / workers if gpus else float(cluster.use_gpu(experiment.device, room))
    cluster.check_fits(room, workers, 1, each)
    cluster.check_precision(room, experiment, each)
    return Share(workers, 1.0, each)
