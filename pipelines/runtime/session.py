"""Named, resumable runs: one folder with its lock and its record, and one MLflow run.

    named = find_run(storage / "trainings", name, default)    # reads the record
    named.check_settings(settings)                            # raises ValueError if the run has others
    with open_session(named, record, ...) as session:         # locks the folder, opens the MLflow run
        with session.start_ray(console) as room:
            ...

When the block ends, the MLflow run is FINISHED, FAILED or KILLED (Ctrl-C), and the folder is unlocked.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.environment import command
from pipelines.runtime import cluster
from pipelines.runtime.preflight import check_shared
from pipelines.runtime.run_lock import acquire
from pipelines.runtime.run_record import Record, check_name, check_unchanged, read_record, write_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from pipelines.tracking.tracker import Tracker


@dataclass(frozen=True)
class NamedRun:
    """Folder and record of a named run."""

    folder: Path
    kind: str = "run"
    """"run" or "sweep": names the record's file, and the run in messages."""
    record: Record | None = None
    """None if the run does not exist yet."""

    @classmethod
    def read(cls, folder: Path, kind: str = "run") -> "NamedRun":
        """Read the record in `folder`, if there is one."""
        return cls(folder, kind, read_record(folder / f"{kind}.json"))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.kind}.json"

    def check_settings(self, settings: Mapping[str, Any], changeable: frozenset[str] = frozenset()) -> None:
        """Raise ValueError if the run exists with other settings or options, those in `changeable` excepted."""
        if self.record:
            stored = self.record["settings"] | self.record.get("options", {})
            check_unchanged(stored, settings, self.title, changeable)

    def check_data(self, data: Mapping[str, Any]) -> None:
        """Raise ValueError if the run exists with other data. data: entries of the record."""
        if self.record:
            check_unchanged(self.record, data, self.title)

    def notes(self) -> list[str]:
        """Return a line to print if the run is resumed, else nothing."""
        return [f"resuming {self.title}"] if self.record else []


def find_run(parent: Path, name: str, default: str, kind: str = "run") -> NamedRun:
    """Return the run `name` in the folder `parent`. If `name` is empty, it is named `default` and the time.

    Raise ValueError for a name that cannot be a folder's.
    """
    name = name or f"{default}-{time.strftime('%Y%m%d-%H%M%S')}"
    check_name(name)
    return NamedRun.read(parent / name, kind)


@dataclass
class Session:
    """A named run that this process holds. Use it in a `with` block, which closes it."""

    named: NamedRun
    storage: Path
    tracking_uri: str
    run_id: str
    resume_command: str
    """Command that resumes the run after Ctrl-C."""
    has_trials: bool
    """True if the MLflow run has children that end with it."""
    release: Callable[[], None]
    """Unlock the folder."""
    tracker: "Tracker" = field(init=False)

    def __enter__(self) -> "Session":
        self.open_tracker()
        return self

    def open_tracker(self, unsent: Sequence[Any] | None = None) -> None:
        """Open the MLflow run's tracker. unsent: points that a worker, which has ended, could not send."""
        from pipelines.tracking.tracker import Tracker

        self.tracker = Tracker(self.tracking_uri, self.run_id, unsent or (), resumed=unsent is not None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """End the MLflow run and unlock the folder. After Ctrl-C, raise KeyboardInterrupt(resume command)."""
        from pipelines.tracking.status import end_children

        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            if self.has_trials and error is not None:  # Ray Tune does not report trials that it has not ended itself
                end_children(self.tracking_uri, self.run_id, "KILLED")
            self.tracker.finish("FINISHED" if error is None else "KILLED" if interrupted else "FAILED")
        finally:
            self.release()
        if interrupted:
            raise KeyboardInterrupt(self.resume_command) from None

    def save_figure(self, name: str, figure: "Figure") -> Path:
        """Save a picture in the run's folder and in MLflow; return its path."""
        path = self.named.folder / name
        figure.savefig(path, dpi=120)
        self.tracker.figure(name, figure)
        return path

    @contextmanager
    def start_ray(self, console: "Console", **options: Any) -> Iterator[cluster.Room]:
        """Ray as in `cluster.running`, after a check that all nodes see the run's storage and MLflow."""
        console.print("starting Ray")
        with cluster.running(**options) as room:
            check_shared(self.storage, self.tracking_uri)
            yield room


def open_session(
    named: NamedRun,
    record: Record,
    tracking_uri: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    storage: Path,
    resume_command: str,
    *,
    has_trials: bool = False,
    check: Callable[[], object] = lambda: None,
) -> Session:
    """Lock the run's folder, start its MLflow run or reopen that of its record, and write `record` with the run's id.

    params, tags: of a new MLflow run, in the MLflow experiment arae-NAME after the setting `name`. check: called once
    the folder is locked, before anything is changed. Raise ValueError if another process holds the folder.
    """
    from pipelines.tracking.runs import start_parent

    release = acquire(named.folder, named.title)
    try:
        check()
        before = (named.record or {}).get("run_id")
        experiment = f"arae-{params['name']}"
        run_id = start_parent(
            tracking_uri, experiment, named.name, params=params, tags=tags, resume=before, storage=storage
        )
        write_record(named.file, record | {"run_id": run_id})
    except BaseException:
        release()
        raise
    return Session(named, storage, tracking_uri, run_id, resume_command, has_trials, release)


def resume_command(name: str, words: Sequence[str], run_name: str) -> str:
    """Return the command that resumes an interrupted run: the same words, and the run's name if they lack it."""
    named = any(word.partition("=")[0].replace("_", "-") == "--run-name" for word in words)
    return shlex.join([*command(name), *words, *([] if named else ["--run-name", run_name])])
