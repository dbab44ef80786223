"""MLflow runs: where they are kept, a parent for each sweep, a child for each trial, a Tracker for any process.

MLflow's global "active run" is never used: everything goes by tracking URI and run id, so that the driver, a trial
and a Ray worker on another machine can all write to the same run.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.tracking import store
from pipelines.tracking.status import has_run
from pipelines.tracking.store import connect, first_line, open_tracking, patiently, sqlite_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Tracker", "open_tracking", "start_or_resume_child", "start_parent"]

Point = tuple[str, float, int, int]
"""One value of a curve: metric, value, milliseconds since 1970, step."""

PARENT, TRIAL = "mlflow.parentRunId", "trial_id"
LONGEST_VALUE = 6000  # characters that MLflow keeps of a parameter


def start_parent(
    uri: str,
    experiment: str,
    run_name: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    resume: str | None = None,
) -> str:
    """Start the run of a training or of a sweep, or reopen the one whose id is `resume`, if it is there; its run id.

    Not by its name, which others may have given theirs, and which a person may change. The MLflow experiment is created
    where it is missing. Parameters are written once: a reopened run keeps its own.
    """
    experiment_id = _experiment_id(uri, experiment)
    if resume and has_run(uri, resume):
        connect(uri).update_run(resume, status="RUNNING")
        return resume
    return _start(uri, experiment_id, run_name, params, {**(tags or {})})


def start_or_resume_child(
    uri: str,
    experiment: str,
    parent_run_id: str,
    trial_id: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> str:
    """The run of one trial, found by its tag and reopened after a restart, else started; its run id."""
    condition = f"tags.`{PARENT}` = '{parent_run_id}' and tags.{TRIAL} = '{_quoted(trial_id)}'"
    tags = {**(tags or {}), PARENT: parent_run_id, TRIAL: trial_id}

    def find_or_start() -> str:
        experiment_id = _experiment_id(uri, experiment)
        found = _find(uri, experiment_id, condition)
        if found is None:
            return _start(uri, experiment_id, trial_id, params, tags)
        there = connect(uri).get_run(found).data.params  # the server may have been lost between run and parameters
        _log_params(uri, found, {name: value for name, value in params.items() if name not in there})
        return found

    return patiently(uri, find_or_start)


def _experiment_id(uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        file = sqlite_file(uri)  # a server has an artifact store of its own
        location = (file.parent / "mlartifacts" / name).as_uri() if file is not None else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another process was quicker
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise ValueError(
            f"the MLflow experiment {name!r} at {uri} was deleted; "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` brings it back"
        )
    return str(experiment.experiment_id)


def _find(uri: str, experiment_id: str, condition: str) -> str | None:
    runs = connect(uri).search_runs([experiment_id], condition, max_results=1, order_by=["attributes.start_time DESC"])
    if not runs:
        return None
    run_id = str(runs[0].info.run_id)
    connect(uri).update_run(run_id, status="RUNNING")
    return run_id


def _start(uri: str, experiment_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    all_tags = {"mlflow.source.name": Path(sys.argv[0]).name, **commit_tag(), **tags}
    run_id = str(connect(uri).create_run(experiment_id, tags=all_tags, run_name=name).info.run_id)
    _log_params(uri, run_id, params)
    return run_id


def _log_params(uri: str, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    entities = [Param(key, _shortened(value)) for key, value in params.items()]
    for start in range(0, len(entities), 100):  # MLflow takes 100 in a request
        connect(uri).log_batch(run_id, params=entities[start : start + 100])


def commit_tag() -> dict[str, str]:
    """The git commit of the working directory as MLflow's tag; empty where this is no checkout."""
    try:
        out = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": out.strip()}


def _shortened(value: object) -> str:
    text = str(value)
    note = f" ... ({len(text)} characters, whole in the run's artifacts)"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - len(note)] + note


def _quoted(text: str) -> str:
    if "'" in text:
        raise ValueError(f"a trial's name cannot hold a single quote, got {text!r}")
    return text


class Tracker:
    """One MLflow run, written to from whichever process holds this. Can be pickled.

    Curves are buffered until `flush`, which belongs right after a checkpoint has been reported: what was logged past
    the last checkpoint dies with the process and is computed again, so no point comes twice. To lose none either, keep
    `unsent()` in the checkpoint and give it to the Tracker that resumes: points that had been sent are not doubled,
    because MLflow takes an equal point (metric, value, time, step) for the same one.

    A tracker that fails warns once and never stops the training; points wait for the next flush.
    """

    def __init__(
        self, tracking_uri: str, run_id: str, unsent: Sequence[Sequence[Any]] = (), *, resumed: bool = False
    ) -> None:
        """resumed: whether a process of before may have sent points past the checkpoint that this one goes on from.
        They are found before the first flush and not sent again."""
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self._points: list[Point] = [(str(k), float(v), int(t), int(s)) for k, v, t, s in unsent]
        self._warned = False
        self._resumed = resumed
        self._last: dict[str, int] = {}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each curve named in `metrics`; sent by `flush`."""
        now = time.time_ns() // 1_000_000
        self._points += [(name, float(value), now, step) for name, value in metrics.items()]

    def unsent(self) -> list[Point]:
        """The points that wait for the next flush, ready for JSON."""
        return list(self._points)

    def flush(self) -> None:
        """Send all buffered points; keep those that could not be sent."""
        from mlflow.entities import Metric

        if self._resumed and not self._find_last():
            return
        self._points = [point for point in self._points if point[3] > self._last.get(point[0], -1)]
        while self._points:
            chunk = self._points[:1000]  # MLflow takes 1000 in a request
            if not self._send("log_batch", metrics=[Metric(*point) for point in chunk]):
                return
            del self._points[: len(chunk)]

    def _find_last(self) -> bool:
        """Learn up to which step each curve that waits has been sent; whether that worked."""
        client, unknown = connect(self.tracking_uri), {point[0] for point in self._points} - self._last.keys()
        try:
            sent = client.get_run(self.run_id).data.metrics if unknown else {}
            for name in unknown:
                history = client.get_metric_history(self.run_id, name) if name in sent else ()
                self._last[name] = max((point.step for point in history), default=-1)
        except Exception:  # see _send
            return False
        return True

    def settle(self) -> None:
        """Send all buffered points; where the server is away, wait for it, for up to `store.PATIENCE` seconds."""
        end = time.monotonic() + store.PATIENCE
        self.flush()
        while self._points and sqlite_file(self.tracking_uri) is None and time.monotonic() < end:
            time.sleep(1)
            self.flush()

    def artifact(self, name: str, content: Path | str | Mapping[str, Any] | Sequence[Any]) -> None:
        """Keep a text (str), JSON (mapping or list), file or folder (Path) under `name`, such as samples/100.txt."""
        with tempfile.TemporaryDirectory() as scratch:
            if isinstance(content, Path) and content.is_dir():
                self._send("log_artifacts", str(content), name)
                return
            target = Path(scratch, Path(name).name)
            if isinstance(content, Path):
                target.write_bytes(content.read_bytes())
            else:
                text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
                target.write_text(text, encoding="utf-8")
            folder = Path(name).parent.as_posix()
            self._send("log_artifact", str(target), None if folder == "." else folder)

    def figure(self, name: str, figure: "Figure") -> None:
        """Keep a matplotlib figure as a picture under `name`, such as curves.png."""
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch, Path(name).name)
            figure.savefig(target, dpi=120, bbox_inches="tight")
            self.artifact(name, target)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run."""
        for name, value in tags.items():
            self._send("set_tag", name, value)

    def finish(self, status: str = "FINISHED") -> None:
        """Send what is left and end the run: FINISHED, FAILED or KILLED. One that is killed waits for nobody."""
        if status == "KILLED":
            self.flush()
        else:
            self.settle()
        if self._points:
            print(f"warning: {len(self._points)} points of the curves were not sent to MLflow", file=sys.stderr)
        self._send("set_terminated", status)

    def _send(self, request: str, *values: Any, **named: Any) -> bool:
        """Call the MlflowClient's method `request` on this run; whether that worked."""
        try:
            getattr(connect(self.tracking_uri), request)(self.run_id, *values, **named)
        except Exception as error:  # of MLflow, requests, and whatever library an artifact store is reached by
            if not self._warned:
                print(f"warning: MLflow at {self.tracking_uri} fails ({first_line(error)}); going on", file=sys.stderr)
            self._warned = True
            return False
        return True
