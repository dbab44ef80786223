"""The lives of a trial under population based training: a new one begins where it goes on from another's checkpoint.

Often that is an earlier step, and the steps after it come again with other values: points of a curve that are not
those of the life before, which nobody may take for sent. A worker that is lost in between begins no new life, nor does
one that goes back to an older life, as in a sweep whose last seconds were forgotten.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from pipelines.runtime.run_record import read_record, write_record

Lives = list[tuple[int, str]]
"""When each life began, in milliseconds since 1970, or was gone back to, and which one."""
NAME = "lives.json"


def begin(folder: Path, lineage: list[Any]) -> Lives:
    """The lives of the trial whose checkpoints lie in `folder`, up to that in which it goes on now, with this lineage.

    Written there at once: its worker may be lost before it has a checkpoint of its own.
    """
    lives = lives_of(folder)
    life = hashlib.sha256(json.dumps(lineage, sort_keys=True).encode()).hexdigest()[:16]
    if not lives or lives[-1][1] != life:
        lives.append((time.time_ns() // 1_000_000, life))
        write_record(folder / NAME, {"lives": lives})
    return lives


def lives_of(folder: Path) -> Lives:
    """What was written last."""
    return [(int(began), str(life)) for began, life in (read_record(folder / NAME) or {"lives": ()})["lives"]]


def unsent_of(folder: Path) -> list[Any]:
    """The points of its curves that a trial had not sent when it wrote the last checkpoint in `folder`."""
    try:
        files = sorted(folder.glob("checkpoint_*/training.json"), key=lambda file: file.stat().st_mtime_ns)
        return list(json.loads(files[-1].read_text(encoding="utf-8"))["unsent"]) if files else []
    except (OSError, ValueError, KeyError):  # not written to its end
        return []
