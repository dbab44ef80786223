"""Lock of a run's folder: two commands under one name would overwrite and delete each other's checkpoints.

A file with a heartbeat, because locks of the operating system are unreliable on network file systems. filelock's
SoftFileLease (4.2.11) also has a heartbeat, but it takes over the lock of a dead holder only by an atomic exchange of
two names, which NFS and SMB refuse: a killed run would stay locked there.
"""

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
"""Seconds between heartbeats."""
SILENCE = 20.0
"""Seconds without a heartbeat after which a holder on another machine counts as lost."""


def acquire(folder: Path, title: str) -> Callable[[], None]:
    """Lock `folder`, which is created, for this process; return the function that releases it.

    The lock of a dead process on this machine is taken over at once, any other after SILENCE seconds without a
    heartbeat. Raise ValueError, with `title` and the holder, if the holder is alive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, own = folder / NAME, {"host": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}
    partial = folder / f".{NAME}-{own['id']}"
    partial.write_text(json.dumps(own) + "\n", encoding="utf-8")
    try:
        os.link(partial, file)  # fails if the file exists, on network file systems too
    except FileExistsError:
        _wait_for_silence(file, title)
        os.replace(partial, file)
        time.sleep(0.1)
        if _read(file) != own:  # another process took it over as well, and later
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
        # The run itself reports a storage that has become read-only, and this process will count as dead anyway.
        with suppress(OSError):
            if _read(file) == own:
                file.unlink(missing_ok=True)

    return release


def _wait_for_silence(file: Path, title: str) -> None:
    """Return once the holder counts as lost; raise ValueError at its first heartbeat.

    Counts looks at the file instead of seconds: a contender that was itself suspended has seen no silence.
    """
    holder, before = _read(file), _last_beat(file)
    for _ in range(math.ceil(10 * SILENCE / BEAT)):
        if _is_dead(holder):
            return
        if _last_beat(file) != before:
            raise ValueError(
                f"{title} is in use by {_who(holder)}; wait until it ends, stop it, or choose another --run-name"
            )
        time.sleep(BEAT / 10)


def _is_dead(holder: dict[str, Any]) -> bool:
    """True if there is no holder, or it is a process of this machine that has ended."""
    if holder.get("host") != socket.gethostname():
        return not holder
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, ValueError):
        return False
    return False


def _last_beat(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _read(file: Path) -> dict[str, Any]:
    """Return the holder, or {} if there is none."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder.get('process', '?')} on {holder.get('host', 'another machine')}"
