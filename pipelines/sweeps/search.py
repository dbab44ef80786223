"""Ray Tune around the trials: search algorithms, resuming a sweep, and its results."""

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
from pipelines.sweeps.search_space import domains, lists, own_values, with_tuples, without_effect
from pipelines.sweeps.sweep import Sweep
from pipelines.sweeps.trial import run_trial
from pipelines.sweeps.tune_callback import (
    STOP_SIGNALS,
    SweepCallback,
    TrialRow,
    final_state,
    prune_checkpoints,
    reported_metrics,
)
from pipelines.sweeps.tune_state import can_resume
from pipelines.training.worker import read_trainer_state


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep: a row for each trial with its best evaluation, the best trial first."""

    rows: list[TrialRow]
    best: TrialRow | None
    """The first row, with "checkpoint", a Path; None if no trial came to an evaluation."""


def run_sweep(
    sweep: Sweep, room: Room, reported: Callable[[list[TrialRow], TrialRow], None], ended: Callable[[TrialRow], None]
) -> SweepResult:
    """Start or resume the sweep in the running cluster.

    reported: called with the rows of all trials, and the row of the trial that has just reported. ended: called with
    the row of a trial that has ended. Raise KeyboardInterrupt after Ctrl-C, once the state is saved, and ValueError if
    the state cannot be read.
    """
    from ray import tune

    trainable = make_trainable(sweep, room)
    resumed = can_resume(sweep.folder)
    tuner = make_tuner(sweep, trainable, sweep.concurrent_trials(room))  # also writes tuner.pkl anew
    if resumed:
        tuner = tune.Tuner.restore(str(sweep.folder), trainable=trainable, resume_errored=True)
    SweepCallback.reported, SweepCallback.ended, SweepCallback.interrupted = reported, ended, False
    SweepCallback.rows, SweepCallback.copied = {}, None
    # PBT may ask for any checkpoint that a donor ever had.
    SweepCallback.selection = None if sweep.options["scheduler"] == "pbt" else sweep.selection
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        results: Any = tuner.fit()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if SweepCallback.interrupted:
        raise KeyboardInterrupt
    for result in results:
        prune_checkpoints(Path(result.path), *sweep.selection, newest=1)
    collected = collect(results, *sweep.selection)
    for row in collected.rows:
        for name in without_effect({name: row[name] for name in sweep.space if name in row}, sweep.experiment):
            del row[name]
    return collected


def make_trainable(sweep: Sweep, room: Room) -> Any:
    """Return the function that Ray Tune runs as a trial, with the resources that it reserves."""
    from ray import tune

    plan = sweep.plan(room)
    if plan.resources.workers == 1:
        resources = {"cpu": plan.resources.cpus, "gpu": plan.resources.gpus}
        return tune.with_resources(tune.with_parameters(run_trial, plan=plan), resources)
    # A cluster started by others does not have the custom resource: there a driver reserves some memory.
    resources = {"memory": 2_000_000_000} if room.attached else {DRIVER: 1}
    return tune.with_resources(tune.with_parameters(drive_trial, plan=plan), resources)


def make_search_algorithm(sweep: Sweep, concurrent: int) -> Any:
    """Return the search algorithm. Its first trial has the experiment's own settings. concurrent: trials at a time."""
    own, seed = own_values(sweep.space, sweep.experiment), sweep.experiment.seed
    if sweep.options["search"] != "optuna":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        # With this generator, Tune ignores its own max_concurrent_trials and warns.
        return BasicVariantGenerator([own], concurrent, random_state=seed)
    if lists(sweep.space, own):
        from ray.tune.search.optuna import OptunaSearch

        return OptunaSearch(points_to_evaluate=[own], seed=seed)
    from pipelines.sweeps.optuna_search import OptunaAfterBaseline

    return OptunaAfterBaseline(own, seed=seed)


def make_tuner(sweep: Sweep, trainable: Any, concurrent: int) -> Any:
    """Return a Tuner whose first trial has the experiment's own settings. concurrent: trials at a time."""
    from ray import tune

    experiment, (metric, mode) = sweep.experiment, sweep.selection
    random.seed(experiment.seed)  # population based training draws from this generator
    limit = 0 if sweep.options["scheduler"] == "pbt" else concurrent  # with PBT it would limit the population
    return tune.Tuner(
        trainable,
        param_space=domains(sweep.space),
        tune_config=tune.TuneConfig(
            metric=metric,
            mode=mode,
            num_samples=sweep.options["trials"],
            search_alg=make_search_algorithm(sweep, limit),
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
            callbacks=[SweepCallback()],
        ),
    )


def collect(results: Any, metric: str, mode: str) -> SweepResult:
    """Return every trial with its best evaluation among those whose checkpoint still exists, the best trial first."""
    sign = 1 if mode == "min" else -1
    rows = []
    for result in results:
        row = reported_metrics(result.metrics or {}) | with_tuples(result.config or {})
        row["trial"] = Path(result.path).name
        row["state"] = "failed" if result.error else final_state(row)
        scored = [(c, m) for c, m in result.best_checkpoints or [] if metric in m and Path(c.path).exists()]
        if scored:
            checkpoint, metrics = min(scored, key=lambda pair: sign * float(pair[1][metric]))
            folder = Path(checkpoint.path)
            row |= reported_metrics(metrics) | searched_values(folder) | {"checkpoint": folder}
        rows.append(row)
    rows.sort(key=lambda row: sign * float(row[metric]) if "checkpoint" in row else math.inf)
    return SweepResult(rows, rows[0] if rows and "checkpoint" in rows[0] else None)


def searched_values(checkpoint: Path) -> TrialRow:
    """Return the searched settings that a checkpoint was last trained with. Under PBT they change during a trial."""
    return dict(with_tuples(read_trainer_state(checkpoint)["lineage"][-1][2]))
