"""Writing to an MLflow run from whichever process: curves, files, how it ended."""

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.tracking import store
from pipelines.tracking.store import connect, first_line, sqlite_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Point = tuple[str, float, int, int]
"""One value of a curve: metric, value, milliseconds since 1970, step."""


class Tracker:
    """One MLflow run, written to from whichever process holds this. Can be pickled.

    Curves are buffered until `flush`, which belongs right after a checkpoint has been reported: what was logged past
    the last checkpoint dies with the process and is computed again, so no point comes twice. To lose none either, keep
    `unsent()` in the checkpoint and give it to the Tracker that resumes: points that had been sent are not doubled,
    because MLflow takes an equal point (metric, value, time, step) for the same one.

    A tracker that fails warns once and never stops the training; points wait for the next flush.
    """

    def __init__(
        self,
        tracking_uri: str,
        run_id: str,
        unsent: Sequence[Sequence[Any]] = (),
        *,
        resumed: bool = False,
        lives: Sequence[tuple[int, str]] = (),
    ) -> None:
        """resumed: whether a process of before may have sent points past the checkpoint that this one goes on from.
        They are found before the first flush and not sent again. lives: from when on (milliseconds since 1970) the
        run's points are those of which life; what was sent in another life is not what comes again in this one."""
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self._points: list[Point] = [(str(k), float(v), int(t), int(s)) for k, v, t, s in unsent]
        self._warned = False
        self._resumed = resumed
        self._lives = [(int(began), str(life)) for began, life in lives]
        self._last: dict[str, dict[str, int]] = {}

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
        self._points = [p for p in self._points if p[3] > self._last.get(p[0], {}).get(self._life(p[2]), -1)]
        while self._points:
            chunk = self._points[:1000]  # MLflow takes 1000 in a request
            if not self._send("log_batch", metrics=[Metric(*point) for point in chunk]):
                return
            del self._points[: len(chunk)]

    def _find_last(self) -> bool:
        """Learn up to which step of each life each curve that waits has been sent; whether that worked."""
        client, unknown = connect(self.tracking_uri), {point[0] for point in self._points} - self._last.keys()
        try:
            sent = client.get_run(self.run_id).data.metrics if unknown else {}
            for name in unknown:
                history = client.get_metric_history(self.run_id, name) if name in sent else ()
                steps: dict[str, int] = {}
                for point in history:
                    life = self._life(point.timestamp)
                    steps[life] = max(point.step, steps.get(life, -1))
                self._last[name] = steps
        except Exception:  # see _send
            return False
        return True

    def _life(self, when: int) -> str:
        """The one to which a point of that time belongs."""
        return next((life for began, life in reversed(self._lives) if began <= when), "")

    def flush_with_retry(self) -> None:
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
            self.flush_with_retry()
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
