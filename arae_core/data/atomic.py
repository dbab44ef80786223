"""Write files and folders all at once: a killed process or a full disk leaves the old content or the new one.

The new content is written under a hidden name beside the target and then renamed. Nothing is flushed to the disk
itself: this protects against the end of a process, not against a power failure.
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
    """Yield a path to write to, with the suffix of `path`; rename it to `path` when the block ends without an error.

    The folder of `path` must exist. After an error nothing is left behind.
    """
    partial = path.with_name(f".partial-{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`; raise OSError, with the old content in place, if that fails."""
    with replace_file_atomically(path) as partial:
        partial.write_bytes(content)


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8; raise OSError, with the old content in place, if that fails."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_json_atomically(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON; raise OSError, with the old content in place, if that fails."""
    write_text_atomically(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def replace_folder_atomically(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to; give it the name `folder` when the block ends without an error.

    Parents are created. A folder cannot be renamed over another one, so an existing `folder` steps aside first, whole:
    a process killed between the two renames leaves it in a hidden folder beside `folder`. After an error the old folder
    is in its place and nothing else is left behind. The permissions follow the umask.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()  # the scratch folder itself is readable by its owner alone
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
