"""What Ray Tune tells while a sweep runs: rows for whoever shows it, and the housekeeping that goes with it."""

import math
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from pipelines.sweeps.pbt_history import lives_of, unsent_of
from pipelines.sweeps.search_space import with_tuples
from pipelines.sweeps.tune_state import back_up, clear_staging
from pipelines.training.worker import read_trainer_state

Row = dict[str, Any]
"""A trial: "trial", "state", the figures of an evaluation by name, the settings searched by name. What a sweep found
leaves out those that the others made irrelevant."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what `ray job stop` sends."""
OF_TUNE = {
    *("timestamp", "checkpoint_dir_name", "done", "training_iteration", "trial_id", "date", "time_this_iter_s", "pid"),
    *("time_total_s", "hostname", "node_ip", "config", "time_since_restore", "iterations_since_restore"),
    *("experiment_tag", "should_checkpoint"),
}
"""What Ray Tune adds to every report."""
STATES = {"PENDING": "waiting", "RUNNING": "running", "PAUSED": "paused", "ERROR": "failed"}
"""Of trials that have not ended well, as Ray Tune calls them and as we do."""
SECONDS_BETWEEN_COPIES = 30.0
"""Of Ray's state of a sweep: what is forgotten of it, should its own be cut off."""


class Watch(Callback):
    """Tells the driver of every report and every end.

    Ray pickles its callbacks into the sweep's folder and, going on with it, unpickles them: whom to tell is therefore
    kept in the class and not in the object.
    """

    reported: Callable[[list[Row], Row], None]
    ended: Callable[[Row], None]
    interrupted: bool
    selection: tuple[str, str] | None
    """The metric and min or max, where old checkpoints may be deleted while the sweep runs."""
    rows: dict[str, Row] = {}
    """Each trial's, kept: of hundreds of trials, one report changes one row."""
    copied: float | None = None
    """When Ray's state was last copied; None before the first step."""

    def setup(self, *_: Any, **__: Any) -> None:
        """Notice Ctrl-C and the job's end (SIGTERM): Tune's own handler of the first, in place by now, ends the sweep
        and saves its state without a word."""
        stop: Any = signal.getsignal(signal.SIGINT)

        def told(number: int, frame: Any) -> None:
            Watch.interrupted = True
            stop(signal.SIGINT, frame)

        for number in STOPPING:
            signal.signal(number, told)

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if Watch.copied is None:
            Watch.copied = -math.inf
            if trials:  # of before
                clear_staging(Path(trials[0].storage.experiment_driver_staging_path))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        now = time.monotonic()
        if trials and now - (Watch.copied or 0) > SECONDS_BETWEEN_COPIES:
            storage, Watch.copied = trials[0].storage, now
            back_up(Path(storage.experiment_driver_staging_path), Path(storage.experiment_fs_path))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        Watch.rows[trial.trial_id] = _row(trial, result)
        for other in trials:
            row = Watch.rows.get(other.trial_id)
            if row is None:  # `last_result` would wait for a trial that is only starting
                row = Watch.rows[other.trial_id] = _row(other, other.run_metadata.last_result or {})
            row["state"] = _state(other, row)
        Watch.reported([Watch.rows[other.trial_id] for other in trials], Watch.rows[trial.trial_id])
        if Watch.selection:
            prune(Path(trial.storage.trial_fs_path), *Watch.selection, newest=3)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        row = _row(trial, trial.last_result or {}) | _unsent(trial)
        Watch.ended(row | {"state": ending(row)})  # Tune still calls it running
        for statistics in (trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps):
            statistics.clear()  # of every figure, by Tune, for nobody: most of what a trial that has ended takes

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        Watch.ended(_row(trial, trial.last_result or {}) | _unsent(trial) | {"state": "failed"})


def _row(trial: Any, result: dict[str, Any]) -> Row:
    """A trial of Ray Tune as it is now."""
    row: Row = figures(result) | with_tuples(trial.config) | {"trial": trial.trial_id}
    return row | {"state": _state(trial, row)}


def _state(trial: Any, row: Row) -> str:
    return STATES.get(trial.status) or ending(row)


def _unsent(trial: Any) -> Row:
    """What a trial of Ray Tune leaves for another to send. In its own folder: its checkpoint may be a donor's."""
    folder = Path(trial.storage.trial_fs_path)
    return {"unsent": unsent_of(folder), "lives": lives_of(folder)}


def figures(metrics: dict[str, Any]) -> Row:
    return {name: value for name, value in metrics.items() if name not in OF_TUNE}


def ending(row: Row) -> str:
    if row.get("diverged"):
        return "diverged"
    return "done" if row.get("step", 0) >= row.get("end", math.inf) else "stopped"


def prune(trial: Path, metric: str, mode: str, newest: int) -> None:
    """Delete a trial's checkpoints but its two best and its `newest` last.

    Tune could keep a number itself, but a sweep that was killed between two writes of its state then asks for a
    checkpoint that is gone, and so do PBT's exploits. Here an old one outlives a few reports.
    """

    def score(checkpoint: Path) -> float:
        try:
            value = float(read_trainer_state(checkpoint)["metrics"][metric])
        except (OSError, ValueError, KeyError):  # not written to its end
            return math.inf
        return value if mode == "min" else -value

    checkpoints = sorted(trial.glob("checkpoint_*"))
    if len(checkpoints) > newest + 2:
        keep = {*checkpoints[-newest:], *sorted(checkpoints, key=score)[:2]}
        for checkpoint in set(checkpoints) - keep:
            shutil.rmtree(checkpoint, ignore_errors=True)
