"""A process may die at any moment of saving, or the disk be full: what lies under the name is whole.

Every audited file operation of `save_checkpoint` is a place to die: a child process is killed at each in turn.
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


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked process; its wait status. Exit status 3 means that an exception was raised."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def dying_at(event_number: int, root: Path, state: TrainingState) -> Callable[[], None]:
    """Save `state` over root/c and be killed at a file operation under `root`."""

    def body() -> None:
        seen = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in EVENTS:
                if seen == event_number:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(hook)
        save_checkpoint(root / "c", state)

    return body


def steps_of_whole_checkpoints(root: Path) -> list[int]:
    """The step of every checkpoint under `root`, whatever its name, that is whole."""
    steps = []
    for path in root.rglob("manifest.json"):
        try:
            steps.append(int(read_manifest(path.parent)["step"]))
        except ValueError:
            continue
    return steps


@pytest.mark.parametrize("overwrites", [False, True])
def test_killed_while_saving_leaves_a_whole_checkpoint_or_none(overwrites: bool, tmp_path: Path) -> None:
    old, new = new_state(image_settings()), new_state(image_settings())
    old.step, new.step = 5, 7
    for event_number in range(200):
        root = tmp_path / str(event_number)
        root.mkdir()
        if overwrites:
            save_checkpoint(root / "c", old)
        status = in_child(dying_at(event_number, root, new))
        where = f"killed at file operation {event_number}"
        if (root / "c").exists():
            assert load_checkpoint(root / "c")[0].step in ((5, 7) if overwrites else (7,)), where
        if overwrites:
            assert steps_of_whole_checkpoints(root), f"{where}: nothing is left of either"
        save_checkpoint(root / "c", new)
        assert load_checkpoint(root / "c")[0].step == 7, f"{where}: what it left is in the way"
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert 5 < event_number < 199, "it was killed at every operation, and then not at all"


def test_full_disk_leaves_the_previous_checkpoint_and_no_litter(tmp_path: Path) -> None:
    old = new_state(image_settings())
    old.step = 5
    save_checkpoint(tmp_path / "c", old)
    largest = max(path.stat().st_size for path in (tmp_path / "c").rglob("*"))
    for limit in (0, 100, largest // 2, largest - 1):

        def body(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            save_checkpoint(tmp_path / "c", new_state(image_settings({"seed": 6})))

        assert os.WEXITSTATUS(in_child(body)) == 3, limit
        loaded, _, _ = load_checkpoint(tmp_path / "c")
        assert loaded.step == 5
        assert_same(weights(loaded), weights(old))
        assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_where_the_new_checkpoint_cannot_take_its_place_the_old_one_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_state(image_settings()), new_state(image_settings())
    old.step, new.step = 5, 7
    save_checkpoint(tmp_path / "c", old)
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if source.name == "new":
            raise OSError("the place is taken")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="the place is taken"):
        save_checkpoint(tmp_path / "c", new)
    assert load_checkpoint(tmp_path / "c")[0].step == 5
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_error_while_saving_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(tmp_path / "c", new_state(image_settings()), extra={"what": object()})
    assert not list(tmp_path.iterdir())
