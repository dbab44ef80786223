"""What is known of a run or a sweep by its name: a JSON file beside its checkpoints.

Ray resumes whatever lies under a name, with other settings too and without a word. So they are compared here first.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]
CHANGEABLE_IN_TRAINING = frozenset({"workers", "min_workers", "max_failures"})
"""Settings of how a training runs and not of what comes out: it may go on with others."""


def check_name(name: str) -> None:
    """Raise ValueError where a run cannot be called so: its folder is, and Ray takes ASCII alone."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"--run-name must be a name without slashes, of at most 100 letters (a to z), digits, '.', '_' and '-', "
            f"got {name!r}"
        )


def read_record(file: Path) -> Record | None:
    """What was written last, or None where there is nothing."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def write_record(file: Path, record: Mapping[str, Any]) -> None:
    """Write the whole record at once: a killed process leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def check_unchanged(
    stored: Mapping[str, Any], asked: Mapping[str, Any], title: str, free: frozenset[str] = frozenset()
) -> None:
    """Raise ValueError, naming the first differences, unless the stored settings but the `free` ones are those asked
    for."""
    asked = json.loads(json.dumps(asked))  # tuples are lists in the file
    different = [name for name in asked if name not in free and stored.get(name) != asked[name]]
    if different:
        shown = ", ".join(f"{name} was {stored.get(name)!r} and is {asked[name]!r}" for name in different[:3])
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise ValueError(f"{title} exists with other settings: {shown}{more}; give those, or another name")
