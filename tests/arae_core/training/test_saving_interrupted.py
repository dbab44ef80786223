"""Saving may be killed at any moment, or the disk may be full: the checkpoint under the name is complete.

A child process is killed at each audited file operation of `save_checkpoint` in turn.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arae_core.training.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from arae_core.training.state import TrainingState
from tests.arae_core.small import assert_same, image_settings, new_state, weights

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


def state_at(step: int) -> TrainingState:
    state = new_state(image_settings({"seed": step}))
    state.step = step
    return state


OLD, NEW = state_at(5), state_at(7)


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked process; return its wait status. Exit status 3: it raised an exception."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def save_and_die(folder: Path, event_number: int) -> None:
    """Save NEW; kill this process at a file operation."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in EVENTS:
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)
    save_checkpoint(folder, NEW)


def a_checkpoint_is_complete(root: Path) -> bool:
    """Return True if there is a complete checkpoint under `root`, whatever its name."""
    for path in root.rglob("manifest.json"):
        try:
            read_manifest(path.parent)
            return True
        except ValueError:
            continue
    return False


@pytest.mark.parametrize("overwrites", [False, True])
def test_killed_saving_leaves_a_complete_checkpoint_or_none(overwrites: bool, tmp_path: Path) -> None:
    for event_number in range(200):
        root = tmp_path / str(event_number)
        root.mkdir()
        if overwrites:
            save_checkpoint(root / "c", OLD)
        status = in_child(lambda root=root, number=event_number: save_and_die(root / "c", number))  # type: ignore[misc]
        where = f"killed at file operation {event_number}"
        if (root / "c").exists():
            assert load_checkpoint(root / "c")[0].step in ((5, 7) if overwrites else (7,)), where
        if overwrites:
            assert a_checkpoint_is_complete(root), f"{where}: both are lost"
        save_checkpoint(root / "c", NEW)
        assert load_checkpoint(root / "c")[0].step == 7, f"{where}: leftovers block the next save"
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert 5 < event_number < 199, "it was killed at every operation, and then not at all"


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", OLD)
    largest = max(path.stat().st_size for path in (tmp_path / "c").rglob("*"))
    for limit in (0, 100, largest // 2, largest - 1):

        def body(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            save_checkpoint(tmp_path / "c", NEW)

        assert os.WEXITSTATUS(in_child(body)) == 3, limit
        loaded, _, _ = load_checkpoint(tmp_path / "c")
        assert loaded.step == 5
        assert_same(weights(loaded), weights(OLD))
        assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_error_while_saving_is_raised(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(tmp_path / "c", NEW, extra={"what": object()})
    assert not list(tmp_path.iterdir())
