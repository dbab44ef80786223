"""The table of classifiers with few labels: what is still missing becomes tasks of Ray, as many at once as fit."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.classification.classifier_trial import (
    Cell,
    Plan,
    Row,
    classification_of,
    result_file,
    train_autoencoder,
    train_cell,
)
from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import Experiment
from pipelines.runtime.cluster import Room, check_fits, check_precision, use_gpu
from pipelines.runtime.run_record import read_record
from pipelines.training.trainer import Share


def share_of(room: Room, cells: int, experiment: Experiment) -> Share:
    """What each classifier gets: a GPU where there are any, else the CPUs of a private cluster in equal parts."""
    gpus = 1.0 if use_gpu(experiment.device, room) else 0.0
    check_fits(room, 1, 1, gpus)
    check_precision(room, experiment, gpus)
    at_once = max(1, min(cells, room.count(1, gpus)))
    return Share(1, 1.0 if room.attached else max(1.0, room.cpus // at_once), gpus)


def train_cells(
    cells: Sequence[Cell],
    plan: Plan,
    room: Room,
    started: Callable[[str, int], None],
    ended: Callable[[Row], None],
    progress: Callable[[float], None],
) -> list[Row]:
    """Train all that have no result yet, in the cluster that runs, as many at once as fit; a row for each.

    started: called with method and seed once the autoencoder is there that their classifiers start from. ended: called
    with each row, those of before included. progress: with the iterations that are done, a share of 1.

    Raises FailedError where one cannot be trained; the others' results stay.
    """
    import ray

    from pipelines.runtime.progress_actor import open_progress_actor

    experiment = classification_of(plan.settings)
    rows = {cell: row for cell in cells if (row := read_record(result_file(plan.folder, cell))) is not None}
    for row in rows.values():
        ended(row)
    left = [cell for cell in cells if cell not in rows]
    share, board = share_of(room, len(left), experiment), open_progress_actor()
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": experiment.max_failures}
    first: Any = ray.remote(train_autoencoder).options(**options)
    then: Any = ray.remote(train_cell).options(**options)
    where = (share.cpus, "cuda" if share.gpus else "cpu", board)
    starts = {start: first.remote(*start, plan, *where) for start in dict.fromkeys((c.method, c.seed) for c in left)}
    running = {then.remote(cell, plan, starts[cell.method, cell.seed], *where): cell for cell in left}
    before = [f"{method}-{seed}" for method, seed in starts]
    learning = {reference: start for start, reference in starts.items()}
    while running:
        ready, _ = ray.wait([*running, *learning], timeout=0.5)
        for reference in ready:
            try:
                value = ray.get(reference)
            except ray.exceptions.RayError as error:
                what = running[reference].name if reference in running else "-".join(map(str, learning[reference]))
                raise FailedError(f"{what}: {_first_line(error)}; the others' results are kept") from None
            if reference in learning:
                started(*learning.pop(reference))
            else:
                rows[running.pop(reference)] = value
                ended(value)
        notes = ray.get(board.read.remote())
        under_way = [notes[name] for name in (*(cell.name for cell in running.values()), *before) if name in notes]
        done = len(rows) + sum(note["step"] / note["end"] for note in under_way)
        progress(done / (len(cells) + len(before)))
    return [rows[cell] for cell in cells]


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean and spread over seeds: a row for each method and number of labels; "spread" is the standard deviation."""
    import numpy as np

    groups: dict[tuple[str, int], list[Row]] = {}
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
    """The classifier with the best validation accuracy of all that the run has trained, for another table as well. It
    alone is kept."""
    kept = {path.name: path for path in (folder / "classifiers").glob("*") if not path.name.startswith(".")}
    found = {name: read_record(folder / "results" / f"{name}.json") or {} for name in kept}
    best = max(found, key=lambda name: float(found[name].get("validation", -1)), default=None)
    if best is None:
        return None
    for name, path in kept.items():
        if name != best:
            shutil.rmtree(path)
    shutil.rmtree(folder / "autoencoders", ignore_errors=True)
    return kept[best]
