"""The table of classifiers with few labels: Ray tasks train the missing ones, as many at once as fit."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.classification.classifier_trial import (
    ClassifierPlan,
    ClassifierRow,
    ClassifierTrial,
    classification_of,
    result_file,
    train_autoencoder,
    train_classifier_trial,
)
from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import Experiment
from pipelines.runtime.cluster import Room, check_fits, check_precision, use_gpu
from pipelines.runtime.run_record import read_record
from pipelines.training.resources import WorkerResources


def classifier_resources(room: Room, classifiers: int, experiment: Experiment) -> WorkerResources:
    """Give each of so many classifiers a GPU if there are any, else an even part of a private cluster's CPUs."""
    gpus = 1.0 if use_gpu(experiment.device, room) else 0.0
    check_fits(room, 1, 1, gpus)
    check_precision(room, experiment, gpus)
    concurrent = max(1, min(classifiers, room.count(1, gpus)))
    return WorkerResources(1, 1.0 if room.attached else max(1.0, room.cpus // concurrent), gpus)


def train_classifiers(
    trials: Sequence[ClassifierTrial],
    plan: ClassifierPlan,
    room: Room,
    started: Callable[[str, int], object],
    ended: Callable[[ClassifierRow], object],
    progress: Callable[[float], object],
) -> list[ClassifierRow]:
    """Train all classifiers without a result in the running cluster, as many at once as fit; return a row for each.

    started: called with method and seed once the autoencoder of their classifiers is trained. ended: called with each
    row, also those of an earlier call. progress: called with the share of all iterations that is done.

    Raise FailedError if one cannot be trained; the results of the others are kept.
    """
    import ray

    from pipelines.runtime.progress_actor import newest_figures, open_progress_actor

    experiment = classification_of(plan.settings)
    rows = {trial: row for trial in trials if (row := read_record(result_file(plan.folder, trial))) is not None}
    for row in rows.values():
        ended(row)
    left = [trial for trial in trials if trial not in rows]
    resources, actor = classifier_resources(room, len(left), experiment), open_progress_actor()
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": experiment.max_failures}
    pretrain: Any = ray.remote(train_autoencoder).options(**options)
    learn: Any = ray.remote(train_classifier_trial).options(**options)
    where = (resources.cpus, "cuda" if resources.gpus else "cpu", actor)
    starts = {start: pretrain.remote(*start, plan, *where) for start in dict.fromkeys((t.method, t.seed) for t in left)}
    running = {learn.remote(trial, plan, starts[trial.method, trial.seed], *where): trial for trial in left}
    pretraining = {reference: start for start, reference in starts.items()}
    autoencoders = [f"{method}-{seed}" for method, seed in starts]
    while running:
        ready, _ = ray.wait([*pretraining, *running], timeout=0.5)
        for reference in ready:
            try:
                value = ray.get(reference)
            except ray.exceptions.RayError as error:
                failed = pretraining.get(reference)
                if reference in running:
                    # The error of an autoencoder is also that of every classifier that waits for it.
                    trial = running[reference]
                    start = (trial.method, trial.seed)
                    failed = start if _has_failed(starts[start]) else None
                name = "-".join(map(str, failed)) if failed else running[reference].name
                raise FailedError(f"{name}: {_last_line(error)}; the results of the others are kept") from None
            if reference in pretraining:
                started(*pretraining.pop(reference))
            else:
                rows[running.pop(reference)] = value
                ended(value)
        newest = newest_figures(actor)
        names = (*(trial.name for trial in running.values()), *autoencoders)
        shares = [newest[name]["step"] / newest[name]["end"] for name in names if name in newest]
        progress((len(rows) + sum(shares)) / (len(trials) + len(autoencoders)))
    return [rows[trial] for trial in trials]


def _has_failed(reference: Any) -> bool:
    """Wait for a task, and return True if it has raised an error."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayError:
        return True
    return False


def _last_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]


def mean_accuracies(rows: Sequence[ClassifierRow]) -> list[dict[str, Any]]:
    """Return a row for each method and number of labels: means over seeds, and "spread", the standard deviation."""
    import numpy as np

    groups: dict[tuple[str, int], list[ClassifierRow]] = {}
    for row in rows:
        if "test" in row:
            groups.setdefault((row["method"], row["labels"]), []).append(row)
    return [
        {
            "method": method,
            "labels": labels,
            "seeds": len(group),
            "test": float(np.mean([row["test"] for row in group])),
            "spread": float(np.std([row["test"] for row in group], ddof=1)) if len(group) > 1 else None,
            "validation": float(np.mean([row["validation"] for row in group])),
        }
        for (method, labels), group in groups.items()
    ]


def keep_best(folder: Path) -> Path | None:
    """Delete all classifiers of the run but the one with the best validation accuracy, and return its folder.

    It is the best of all that the run has trained, also for earlier tables.
    """
    kept = {path.name: path for path in (folder / "classifiers").glob("*") if not path.name.startswith(".")}
    results = {name: read_record(folder / "results" / f"{name}.json") or {} for name in kept}
    best = max(results, key=lambda name: float(results[name].get("validation", -1)), default=None)
    if best is None:
        return None
    for name, path in kept.items():
        if name != best:
            shutil.rmtree(path)
    shutil.rmtree(folder / "autoencoders", ignore_errors=True)
    return kept[best]
