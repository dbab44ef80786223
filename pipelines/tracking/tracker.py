"""Writes to an MLflow run from any process: curves, artifacts, tags, status."""

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
"""One point of a curve: metric, value, milliseconds since 1970, step."""


class Tracker:
    """Writer of one MLflow run. Can be pickled.

    Points are buffered until `flush`, which should follow each reported checkpoint: points after the last checkpoint
    are lost with the process and computed again, so none is sent twice. To lose none either, save `unsent()` in the
    checkpoint and pass it to the Tracker of the resumed run. Points that were already sent are not duplicated, because
    MLflow stores an equal point (metric, value, time, step) once.

    If MLflow fails, the tracker warns once and never stops the training; the points wait for the next flush.
    """

    def __init__(
        self,
        tracking_uri: str,
        run_id: str,
        unsent: Sequence[Sequence[Any]] = (),
        *,
        resumed: bool = False,
        lineages: Sequence[tuple[int, str]] = (),
    ) -> None:
        """Create a writer.

        unsent: points from the checkpoint. resumed: an earlier process may have sent points after the checkpoint; they
        are looked up before the first flush and not sent again. lineages: (start in milliseconds since 1970, name) of
        each lineage of a run that population based training exploits; steps of another lineage may come again.
        """
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self._points: list[Point] = [(str(k), float(v), int(t), int(s)) for k, v, t, s in unsent]
        self._warned = False
        self._resumed = resumed
        self._lineages = [(int(start), str(name)) for start, name in lineages]
        self._last: dict[str, dict[str, int]] = {}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each curve named in `metrics`."""
        now = time.time_ns() // 1_000_000
        self._points += [(name, float(value), now, step) for name, value in metrics.items()]

    def unsent(self) -> list[Point]:
        """Return the buffered points, ready for JSON."""
        return list(self._points)

    def flush(self) -> None:
        """Send the buffered points; keep those that could not be sent."""
        from mlflow.entities import Metric

        if self._resumed and not self._find_last():
            return
        self._points = [p for p in self._points if p[3] > self._last.get(p[0], {}).get(self._lineage(p[2]), -1)]
        while self._points:
            chunk = self._points[:1000]  # the limit of a request
            if not self._send("log_batch", metrics=[Metric(*point) for point in chunk]):
                return
            del self._points[: len(chunk)]

    def _find_last(self) -> bool:
        """Look up the last step sent of each buffered curve and lineage; return False if MLflow fails."""
        client, unknown = connect(self.tracking_uri), {point[0] for point in self._points} - self._last.keys()
        try:
            sent = client.get_run(self.run_id).data.metrics if unknown else {}
            for name in unknown:
                history = client.get_metric_history(self.run_id, name) if name in sent else ()
                steps: dict[str, int] = {}
                for point in history:
                    lineage = self._lineage(point.timestamp)
                    steps[lineage] = max(point.step, steps.get(lineage, -1))
                self._last[name] = steps
        except Exception:  # see _send
            return False
        return True

    def _lineage(self, when: int) -> str:
        """Return the name of the lineage at that time."""
        return next((name for start, name in reversed(self._lineages) if start <= when), "")

    def flush_with_retry(self) -> None:
        """Send the buffered points; wait up to `store.PATIENCE` seconds for an unreachable server."""
        end = time.monotonic() + store.PATIENCE
        self.flush()
        while self._points and sqlite_file(self.tracking_uri) is None and time.monotonic() < end:
            time.sleep(1)
            self.flush()

    def artifact(self, name: str, content: Path | str | Mapping[str, Any] | Sequence[Any]) -> None:
        """Save a text (str), JSON (mapping or list), file or folder (Path) as `name`, such as samples/100.txt."""
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
        """Save a matplotlib figure as the picture `name`, such as curves.png."""
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch, Path(name).name)
            figure.savefig(target, dpi=120, bbox_inches="tight")
            self.artifact(name, target)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run."""
        for name, value in tags.items():
            self._send("set_tag", name, value)

    def finish(self, status: str = "FINISHED") -> None:
        """Send the remaining points and end the run: FINISHED, FAILED, or KILLED, which does not wait for a server."""
        if status == "KILLED":
            self.flush()
        else:
            self.flush_with_retry()
        if self._points:
            print(f"warning: {len(self._points)} points of the curves could not be sent to MLflow", file=sys.stderr)
        self._send("set_terminated", status)

    def _send(self, request: str, *values: Any, **named: Any) -> bool:
        """Call the method `request` of MlflowClient for this run; warn and return False if it fails."""
        try:
            getattr(connect(self.tracking_uri), request)(self.run_id, *values, **named)
        except Exception as error:  # of MLflow, requests, or the library of an artifact store
            if not self._warned:
                print(
                    f"warning: MLflow at {self.tracking_uri} fails ({first_line(error)}); continuing", file=sys.stderr
                )
            self._warned = True
            return False
        return True
