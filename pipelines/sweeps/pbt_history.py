"""History of a trial under population based training: its lineages, and the points it could not send to MLflow.

When a trial continues from another trial's checkpoint, a new lineage begins, often at an earlier step. The steps after
it are trained again with other settings, so the points of their curves are new, although MLflow has points of the same
steps. A restart after a lost worker continues the lineage. So does a return to an older lineage, as in a sweep whose
last seconds were lost.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from pipelines.runtime.run_record import read_record, write_record

Lineages = list[tuple[int, str]]
"""(start in milliseconds since 1970, name) of each lineage; one that the trial returned to appears again."""
FILE_NAME = "lives.json"


def begin_lineage(folder: Path, lineage: list[Any]) -> Lineages:
    """Return the lineages of the trial with checkpoints in `folder`, of which `lineage` (see `extend_lineage`) is last.

    They are written at once, because the worker may be lost before its first checkpoint.
    """
    lineages = read_lineages(folder)
    name = hashlib.sha256(json.dumps(lineage, sort_keys=True).encode()).hexdigest()[:16]
    if not lineages or lineages[-1][1] != name:
        lineages.append((time.time_ns() // 1_000_000, name))
        write_record(folder / FILE_NAME, {"lives": lineages})
    return lineages


def read_lineages(folder: Path) -> Lineages:
    """Return the lineages last written to `folder`."""
    return [(int(start), str(name)) for start, name in (read_record(folder / FILE_NAME) or {"lives": ()})["lives"]]


def unsent_points(folder: Path) -> list[Any]:
    """Return the points that were not in MLflow when the trial wrote its newest checkpoint in `folder`."""
    try:
        files = sorted(folder.glob("checkpoint_*/training.json"), key=lambda file: file.stat().st_mtime_ns)
        return list(json.loads(files[-1].read_text(encoding="utf-8"))["unsent"]) if files else []
    except (OSError, ValueError, KeyError):  # an incomplete checkpoint
        return []
