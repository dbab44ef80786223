"""Ray Tune around the trials: search algorithms, going on with a sweep, and what came out of it."""

import json
import math
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback

from pipelines.engine.bridge import drive_trial
from pipelines.engine.cluster import DRIVER, Room
from pipelines.engine.schedulers import make_scheduler
from pipelines.engine.space import domains, own_values, with_own, with_tuples, without_effect
from pipelines.engine.sweep import Sweep
from pipelines.engine.trial import run_trial
from pipelines.engine.tune_state import back_up, can_go_on, clear_staging

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


@dataclass(frozen=True)
class Found:
    """What a sweep found: a row for each trial with its best evaluation, the best trial first, which is also `best`."""

    rows: list[Row]
    best: Row | None
    """With "checkpoint", a Path; None where no trial came to an evaluation."""


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
        Watch.ended(row | {"state": _ending(row)})  # Tune still calls it running
        for statistics in (trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps):
            statistics.clear()  # of every figure, by Tune, for nobody: most of what a trial that has ended takes

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        Watch.ended(_row(trial, trial.last_result or {}) | _unsent(trial) | {"state": "failed"})


def run_sweep(
    sweep: Sweep, room: Room, reported: Callable[[list[Row], Row], None], ended: Callable[[Row], None]
) -> Found:
    """Run the sweep in the cluster that runs, from its beginning or from where it stopped.

    reported: called with all trials' rows, and the one that has just reported. ended: with the row of a trial that has
    ended. Raises KeyboardInterrupt after Ctrl-C, the state saved, and ValueError where the state cannot be read.
    """
    from ray import tune

    trainable = make_trainable(sweep, room)
    goes_on = can_go_on(sweep.folder)
    tuner = make_tuner(sweep, trainable, sweep.at_once(room))  # writes tuner.pkl anew, which may be cut off as well
    if goes_on:
        tuner = tune.Tuner.restore(str(sweep.folder), trainable=trainable, resume_errored=True)
    Watch.reported, Watch.ended, Watch.interrupted, Watch.rows, Watch.copied = reported, ended, False, {}, None
    # PBT may want any checkpoint that a donor ever had
    Watch.selection = None if sweep.options["scheduler"] == "pbt" else sweep.selection
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        results: Any = tuner.fit()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if Watch.interrupted:
        raise KeyboardInterrupt
    for result in results:
        prune(Path(result.path), *sweep.selection, newest=1)
    found = collect(results, *sweep.selection)
    for row in found.rows:
        for name in without_effect({name: row[name] for name in sweep.space if name in row}, sweep.experiment):
            del row[name]
    return found


def make_trainable(sweep: Sweep, room: Room) -> Any:
    """What Ray Tune runs as a trial, with what it takes of the cluster."""
    from ray import tune

    plan = sweep.plan(room)
    if plan.share.workers == 1:
        resources = {"cpu": plan.share.cpus, "gpu": plan.share.gpus}
        return tune.with_resources(tune.with_parameters(run_trial, plan=plan), resources)
    # A cluster that others started knows nothing of our own resource: there a driver takes some of a node's memory.
    resources = {"memory": 2_000_000_000} if room.attached else {DRIVER: 1}
    return tune.with_resources(tune.with_parameters(drive_trial, plan=plan), resources)


def make_tuner(sweep: Sweep, trainable: Any, at_once: int) -> Any:
    """A Tuner whose first trial has the experiment's own settings."""
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    experiment, (metric, mode) = sweep.experiment, sweep.selection
    pbt = sweep.options["scheduler"] == "pbt"
    own = own_values(sweep.space, experiment)
    random.seed(experiment.seed)  # population based training draws from this one
    limit = 0 if pbt else at_once  # with PBT it would limit the population
    # Tune ignores its own max_concurrent_trials, with a warning, where it is given this generator
    algorithm: Any = BasicVariantGenerator([own], limit, random_state=experiment.seed)
    if sweep.options["search"] == "optuna":
        from ray.tune.search.optuna import OptunaSearch

        algorithm = OptunaSearch(points_to_evaluate=[own], seed=experiment.seed)
    return tune.Tuner(
        trainable,
        param_space=domains(with_own(sweep.space, own)),
        tune_config=tune.TuneConfig(
            metric=metric,
            mode=mode,
            num_samples=sweep.options["trials"],
            search_alg=algorithm,
            scheduler=make_scheduler(sweep),
            max_concurrent_trials=limit if sweep.options["search"] == "optuna" else None,
            reuse_actors=experiment.workers == 1,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=sweep.name,
            storage_path=str(sweep.folder.parent),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=experiment.max_failures),
            callbacks=[Watch()],
        ),
    )


def collect(results: Any, metric: str, mode: str) -> Found:
    """Every trial with the best of its evaluations whose checkpoint is still there, the best trial first."""
    sign = 1 if mode == "min" else -1
    rows = []
    for result in results:
        row = _figures(result.metrics or {}) | with_tuples(result.config or {}) | {"trial": Path(result.path).name}
        row["state"] = "failed" if result.error else _ending(row)
        scored = [(c, m) for c, m in result.best_checkpoints or [] if metric in m and Path(c.path).exists()]
        if scored:
            checkpoint, metrics = min(scored, key=lambda pair: sign * float(pair[1][metric]))
            row |= _figures(metrics) | settings_of(Path(checkpoint.path)) | {"checkpoint": Path(checkpoint.path)}
        rows.append(row)
    rows.sort(key=lambda row: sign * float(row[metric]) if "checkpoint" in row else math.inf)
    return Found(rows, rows[0] if rows and "checkpoint" in rows[0] else None)


def settings_of(checkpoint: Path) -> Row:
    """What was searched and what a checkpoint was last trained with: under PBT a trial's settings change on its way."""
    return dict(with_tuples(_training(checkpoint)["lineage"][-1][2]))


def _row(trial: Any, result: dict[str, Any]) -> Row:
    """A trial of Ray Tune as it is now."""
    row: Row = _figures(result) | with_tuples(trial.config) | {"trial": trial.trial_id}
    return row | {"state": _state(trial, row)}


def _state(trial: Any, row: Row) -> str:
    return STATES.get(trial.status) or _ending(row)


def _unsent(trial: Any) -> Row:
    """The points of its curves that a trial of Ray Tune had not sent when it wrote its last checkpoint."""
    try:
        return {"unsent": _training(Path(trial.checkpoint.path))["unsent"]}
    except (AttributeError, OSError, ValueError, KeyError):  # it has none
        return {}


def _figures(metrics: dict[str, Any]) -> Row:
    return {name: value for name, value in metrics.items() if name not in OF_TUNE}


def _ending(row: Row) -> str:
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
            value = float(_training(checkpoint)["metrics"][metric])
        except (OSError, ValueError, KeyError):  # not written to its end
            return math.inf
        return value if mode == "min" else -value

    checkpoints = sorted(trial.glob("checkpoint_*"))
    if len(checkpoints) > newest + 2:
        keep = {*checkpoints[-newest:], *sorted(checkpoints, key=score)[:2]}
        for checkpoint in set(checkpoints) - keep:
            shutil.rmtree(checkpoint, ignore_errors=True)


def _training(checkpoint: Path) -> dict[str, Any]:
    """What the worker kept beside the weights."""
    return dict(json.loads((checkpoint / "training.json").read_text(encoding="utf-8")))
