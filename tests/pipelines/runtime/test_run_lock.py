import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.runtime import run_lock


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    monkeypatch.setattr(run_lock, "SILENCE", 0.6)


def test_a_name_that_is_in_use_is_refused_until_it_is_released(tmp_path: Path) -> None:
    release = run_lock.acquire(tmp_path / "run", "run x")
    with pytest.raises(ValueError, match=rf"^run x is in use by process {os.getpid()} on .*--run-name$"):
        run_lock.acquire(tmp_path / "run", "run x")
    release()
    assert not list((tmp_path / "run").iterdir())
    run_lock.acquire(tmp_path / "run", "run x")()


def test_a_suspended_contender_does_not_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been suspended for longer than a holder may be silent."""

    def sleep(seconds: float) -> None:
        time.sleep(max(seconds, 2 * run_lock.SILENCE))

    release = run_lock.acquire(tmp_path / "run", "run x")
    monkeypatch.setattr(run_lock, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    with pytest.raises(ValueError, match="run x is in use by process"):
        run_lock.acquire(tmp_path / "run", "run x")
    release()


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "SILENCE", 1e9)
    program = "from pathlib import Path; from pipelines.runtime.run_lock import acquire; "
    program += f"acquire(Path({str(tmp_path)!r}), 'x')"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
    assert (tmp_path / run_lock.NAME).exists()
    release = run_lock.acquire(tmp_path, "run x")
    release()
    assert not (tmp_path / run_lock.NAME).exists()


def test_the_lock_of_another_machine_is_taken_over_after_silence(tmp_path: Path) -> None:
    (tmp_path / run_lock.NAME).write_text(json.dumps({"host": "elsewhere", "process": 7, "id": "other"}))
    started = time.monotonic()
    release = run_lock.acquire(tmp_path, "run x")
    assert time.monotonic() - started >= 0.6
    assert json.loads((tmp_path / run_lock.NAME).read_text())["process"] == os.getpid()
    release()


def test_release_leaves_the_lock_of_another_holder(tmp_path: Path) -> None:
    release = run_lock.acquire(tmp_path, "run x")
    other = json.dumps({"host": "elsewhere", "process": 7, "id": "other"})
    (tmp_path / run_lock.NAME).write_text(other)
    release()
    assert (tmp_path / run_lock.NAME).read_text() == other


def test_release_ignores_a_read_only_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    release = run_lock.acquire(tmp_path, "run x")
    monkeypatch.setattr(Path, "unlink", unlink)
    release()
    assert (tmp_path / run_lock.NAME).exists()


def test_of_two_that_take_over_the_later_one_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, known = tmp_path / run_lock.NAME, os.replace
    other = json.dumps({"host": "elsewhere", "process": 7, "id": "other"})

    def replace(source: Path, target: Path) -> None:
        known(source, target)
        file.write_text(other)

    file.write_text(json.dumps({"host": "elsewhere", "process": 6, "id": "lost"}))
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ValueError, match=r"^run x was just started by process 7 on elsewhere, too$"):
        run_lock.acquire(tmp_path, "run x")
    assert [path.read_text() for path in tmp_path.iterdir()] == [other]
