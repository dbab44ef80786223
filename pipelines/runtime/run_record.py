"""Record of a named run: a JSON file beside its checkpoints that holds its settings, its data and its MLflow run.

Ray resumes whatever lies under a name, silently and even with other settings, so the record is compared first.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arae_core.data.atomic import write_json_atomically
from arae_core.settings.declaration import declarations
from arae_core.settings.upgrade import upgraded
from pipelines.experiment.settings import Classification

Record = dict[str, Any]


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can name a run: it names a folder, and Ray accepts ASCII only."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "--run-name must be a name without slashes, of at most 100 letters (a to z), digits, '.', '_' and '-', "
            f"got {name!r}"
        )


def read_record(file: Path) -> Record | None:
    """Return the record last written to `file`, or None if there is none."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def write_record(file: Path, record: Mapping[str, Any]) -> None:
    """Write the record atomically: a killed process leaves the old one or the new one. Parents are created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(file, record)


def check_unchanged(
    stored: Mapping[str, Any], requested: Mapping[str, Any], title: str, changeable: frozenset[str] = frozenset()
) -> None:
    """Raise ValueError, naming the first differences, unless the requested values equal the stored ones.

    title: names the run in the message. changeable: settings that may differ. The record may be one of an earlier
    version: renamed settings are compared under their new names, and settings that it did not have by their defaults.
    """
    defaults = {name: entry.default for name, entry in declarations(Classification).items()}
    stored = _as_stored(defaults | upgraded(stored))
    requested = _as_stored(requested)
    changed = [name for name in requested if name not in changeable and stored.get(name) != requested[name]]
    if changed:
        shown = ", ".join(f"{name} was {stored.get(name)!r} and is {requested[name]!r}" for name in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ValueError(f"{title} exists with other settings: {shown}{more}; use those, or another --run-name")


def _as_stored(values: Mapping[str, Any]) -> Record:
    """Return the values as JSON holds them: lists instead of tuples."""
    return dict(json.loads(json.dumps(values)))
