"""Ray Tune around the trials: search algorithms, going on with a sweep, and what came out of it."""

import math
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.runtime.cluster import DRIVER, Room
from pipelines.sweeps.multi_worker_trial import drive_trial
from pipelines.sweeps.schedulers import make_scheduler
from pipelines.sweeps.search_space import domains, own_values, with_own, with_tuples, without_effect
from pipelines.sweeps.sweep import Sweep
from pipelines.sweeps.trial import run_trial
from pipelines.sweeps.tune_callback import STOPPING, Row, Watch, ending, figures, prune
from pipelines.sweeps.tune_state import can_go_on
from pipelines.training.worker import read_trainer_state


@dataclass(frozen=True)
class Found:
    """What a sweep found: a row for each trial with its best evaluation, the best trial first, which is also `best`."""

    rows: list[Row]
    best: Row | None
    """With "checkpoint", a Path; None where no trial came to an evaluation."""


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
        row = figures(result.metrics or {}) | with_tuples(result.config or {}) | {"trial": Path(result.path).name}
        row["state"] = "failed" if result.error else ending(row)
        scored = [(c, m) for c, m in result.best_checkpoints or [] if metric in m and Path(c.path).exists()]
        if scored:
            checkpoint, metrics = min(scored, key=lambda pair: sign * float(pair[1][metric]))
            row |= figures(metrics) | settings_of(Path(checkpoint.path)) | {"checkpoint": Path(checkpoint.path)}
        rows.append(row)
    rows.sort(key=lambda row: sign * float(row[metric]) if "checkpoint" in row else math.inf)
    return Found(rows, rows[0] if rows and "checkpoint" in rows[0] else None)


def settings_of(checkpoint: Path) -> Row:
    """What was searched and what a checkpoint was last trained with: under PBT a trial's settings change on its way."""
    return dict(with_tuples(read_trainer_state(checkpoint)["lineage"][-1][2]))
