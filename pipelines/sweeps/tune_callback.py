"""Callback of Ray Tune: rows for the display while a sweep runs, pruned checkpoints, copies of Ray's state."""

import math
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from pipelines.runtime.ray_internals import RESULT_FIELDS, drop_statistics, last_result, tune_folders
from pipelines.sweeps.pbt_history import read_lineages, unsent_points
from pipelines.sweeps.search_space import with_tuples
from pipelines.sweeps.tune_state import back_up, clear_staging
from pipelines.training.worker import read_trainer_state

TrialRow = dict[str, Any]
"""A trial: "trial", "state", the metrics of an evaluation by name, the searched settings by name. The rows of a
SweepResult lack the settings that have no effect beside the others."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and the signal that `ray job stop` sends."""
STATES = {"PENDING": "waiting", "RUNNING": "running", "PAUSED": "paused", "ERROR": "failed"}
"""Ray Tune's status -> our state, for trials that have not ended well."""
BACKUP_SECONDS = 30.0
"""Interval of the copies of Ray's state, which is all that is lost if the state itself is cut off."""


class SweepCallback(Callback):
    """Callback that tells the driver about every report and every end.

    Ray pickles its callbacks into the sweep's folder and unpickles them to resume it, so the functions to call are kept
    in the class and not in the object.
    """

    reported: Callable[[list[TrialRow], TrialRow], None]
    ended: Callable[[TrialRow], None]
    interrupted: bool
    selection: tuple[str, str] | None
    """The metric and its mode, min or max; None if no checkpoints may be deleted while the sweep runs."""
    rows: dict[str, TrialRow] = {}
    """The row of each trial. They are kept because a report changes one row of hundreds."""
    copied: float | None = None
    """Time of the last copy of Ray's state; None before the first step."""

    def setup(self, *_: Any, **__: Any) -> None:
        """Record Ctrl-C and the job's end (SIGTERM).

        By now Ray Tune has installed its own handler of SIGINT, which saves its state and ends the sweep silently.
        """
        stop: Any = signal.getsignal(signal.SIGINT)

        def interrupt(number: int, frame: Any) -> None:
            SweepCallback.interrupted = True
            stop(signal.SIGINT, frame)

        for number in STOP_SIGNALS:
            signal.signal(number, interrupt)

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if SweepCallback.copied is None:
            SweepCallback.copied = -math.inf
            if trials:  # a resumed sweep
                clear_staging(tune_folders(trials[0])[0])

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        now = time.monotonic()
        if trials and now - (SweepCallback.copied or 0) > BACKUP_SECONDS:
            SweepCallback.copied = now
            back_up(*tune_folders(trials[0]))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        SweepCallback.rows[trial.trial_id] = row_of(trial, result)
        for other in trials:
            row = SweepCallback.rows.get(other.trial_id)
            if row is None:
                row = SweepCallback.rows[other.trial_id] = row_of(other, last_result(other))
            row["state"] = _state(other, row)
        rows = [SweepCallback.rows[other.trial_id] for other in trials]
        SweepCallback.reported(rows, SweepCallback.rows[trial.trial_id])
        if SweepCallback.selection:
            prune_checkpoints(Path(trial.storage.trial_fs_path), *SweepCallback.selection, newest=3)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        row = row_of(trial, trial.last_result or {}) | _unsent(trial)
        SweepCallback.ended(row | {"state": final_state(row)})  # Tune still calls it running
        drop_statistics(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        SweepCallback.ended(row_of(trial, trial.last_result or {}) | _unsent(trial) | {"state": "failed"})


def row_of(trial: Any, result: dict[str, Any]) -> TrialRow:
    """Return the row of a trial of Ray Tune with this result."""
    row: TrialRow = reported_metrics(result) | with_tuples(trial.config) | {"trial": trial.trial_id}
    return row | {"state": _state(trial, row)}


def _state(trial: Any, row: TrialRow) -> str:
    return STATES.get(trial.status) or final_state(row)


def _unsent(trial: Any) -> TrialRow:
    """Return the points that a trial leaves unsent, from its own folder: its last checkpoint may be a donor's."""
    folder = Path(trial.storage.trial_fs_path)
    return {"unsent": unsent_points(folder), "lineages": read_lineages(folder)}


def reported_metrics(result: dict[str, Any]) -> TrialRow:
    """Return a result of Ray Tune without the fields that Ray adds."""
    return {name: value for name, value in result.items() if name not in RESULT_FIELDS}


def final_state(row: TrialRow) -> str:
    """Return the state of a trial that has ended without an error: done, diverged, or stopped early."""
    if row.get("diverged"):
        return "diverged"
    return "done" if row.get("step", 0) >= row.get("end", math.inf) else "stopped"


def prune_checkpoints(trial: Path, metric: str, mode: str, newest: int) -> None:
    """Delete the checkpoints in a trial's folder except its two best and its `newest` last.

    Tune can limit their number itself, but a sweep that is killed between two writes of its state would then ask for
    deleted checkpoints, and so would PBT's exploits. Here a checkpoint stays for a few reports.
    """

    def score(checkpoint: Path) -> float:
        try:
            value = float(read_trainer_state(checkpoint)["metrics"][metric])
        except (OSError, ValueError, KeyError):  # an incomplete checkpoint
            return math.inf
        return value if mode == "min" else -value

    checkpoints = sorted(trial.glob("checkpoint_*"))
    if len(checkpoints) > newest + 2:
        keep = {*checkpoints[-newest:], *sorted(checkpoints, key=score)[:2]}
        for checkpoint in set(checkpoints) - keep:
            shutil.rmtree(checkpoint, ignore_errors=True)
