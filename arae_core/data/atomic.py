"""Atomic writes: a killed process or a full disk leaves either the old content or the new one.

The new content is written under a hidden name beside the target and then renamed. Nothing is flushed to the disk, so
this protects against the end of a process, not against a power failure.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffix of `path`; rename it to `path` when the block ends without an error.

    The folder of `path` must exist. An error leaves nothing behind.
    """
    partial = path.with_name(f".partial-{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write bytes to `path`. Raise OSError, with the old content in place, if that fails."""
    with replace_file_atomically(path) as partial:
        partial.write_bytes(content)


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8. Raise OSError, with the old content in place, if that fails."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_json_atomically(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON. Raise OSError, with the old content in place, if that fails."""
    write_text_atomically(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def replace_folder_atomically(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; rename it to `folder` when the block ends without an error.

    Parents are created, and permissions follow the umask. A folder cannot be renamed over another one, so an existing
    `folder` is moved aside first: a process killed between the two renames leaves it, complete, in a hidden folder
    beside `folder`. An error leaves the old folder in its place and nothing else behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()  # the scratch folder itself is private to its owner
        yield new
        if folder.exists():
            os.rename(folder, old)
            try:
                os.rename(new, folder)
            except BaseException:
                os.rename(old, folder)
                raise
        else:
            os.rename(new, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
