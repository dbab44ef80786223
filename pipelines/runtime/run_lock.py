"""One command at a time works under a name: two would write the same checkpoints, and delete each other's."""

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

NAME = "in-use.json"
BEAT = 5.0
"""Seconds between signs of life."""
SILENCE = 20.0
"""Seconds without one after which a command counts as lost. One of this machine is asked for by its process instead."""


def acquire(folder: Path, title: str) -> Callable[[], None]:
    """Take what lies in `folder` for this process, until the function returned is called; a lost process loses it.

    A file with signs of life, for locks of the operating system are not to be trusted on network file systems. Waits
    for up to SILENCE where the one that held it is on another machine and may be lost. Raises ValueError where that one
    still works.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, own = folder / NAME, {"host": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}
    partial = folder / f".{NAME}-{own['id']}"
    partial.write_text(json.dumps(own) + "\n", encoding="utf-8")
    try:
        os.link(partial, file)  # fails where there is one, on network file systems, too
    except FileExistsError:
        _wait_for_silence(file, title)
        os.replace(partial, file)
        time.sleep(0.1)
        if _read(file) != own:  # of two that found it lost, the later one
            raise ValueError(f"{title} was just started by {_who(_read(file))}, too") from None
    finally:
        partial.unlink(missing_ok=True)
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            with suppress(OSError):
                os.utime(file)

    threading.Thread(target=beat, daemon=True).start()

    def release() -> None:
        done.set()
        # a storage that cannot be written any more is told by the work itself; the process counts as gone all the same
        with suppress(OSError):
            if _read(file) == own:
                file.unlink(missing_ok=True)

    return release


def _wait_for_silence(file: Path, title: str) -> None:
    """By looks and not by a clock: one that was held up itself has not heard that the other was silent."""
    holder, before = _read(file), _beat(file)
    for _ in range(math.ceil(10 * SILENCE / BEAT)):
        if _is_gone(holder):
            return
        if _beat(file) != before:
            raise ValueError(
                f"{title} is being worked on by {_who(holder)}; wait for its end, stop it, or give another name"
            )
        time.sleep(BEAT / 10)


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the process is known to be lost."""
    if holder.get("host") != socket.gethostname():
        return not holder
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, ValueError):
        return False
    return False


def _beat(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _read(file: Path) -> dict[str, Any]:
    """Who holds it; {} where nobody does."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder.get('process', '?')} on {holder.get('host', 'another machine')}"
