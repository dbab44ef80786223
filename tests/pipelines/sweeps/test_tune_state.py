"""Resuming a sweep when Ray Tune's state is missing or cut off."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipelines.sweeps.tune_state import BACKUP, back_up, can_resume, clear_staging

STATE: dict[str, Any] = {"trial_data": [["trial", "figures"]], "runner_data": {}}


def write(folder: Path, session: str, state: Any = STATE, search: Any = ("a", "b")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"basic-variant-state-{session}.json").write_bytes(pickle.dumps(search))
    file = folder / f"experiment_state-{session}.json"
    file.write_text(json.dumps(state))
    return file


def cut(file: Path) -> None:
    """Truncate a file, as a kill during a write does."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*") if file.is_file())


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep's folder with the checkpoint of a trial."""
    (tmp_path / "sweep" / "ab_00000" / "checkpoint_000000").mkdir(parents=True)
    return tmp_path / "sweep"


def test_a_sweep_without_checkpoints_starts_anew(tmp_path: Path) -> None:
    """Killed before the first state was written, or during the write, or by Ctrl-C before the first trial."""
    (tmp_path / "tuner.pkl").touch()
    assert not can_resume(tmp_path)
    write(tmp_path, "2026-01-01", {"trial_data": []})
    assert not can_resume(tmp_path)
    cut(write(tmp_path, "2026-01-02"))
    assert not can_resume(tmp_path)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("which", ["experiment_state", "basic-variant-state"])
def test_damaged_files_are_restored_from_the_backup(sweep: Path, tmp_path: Path, which: str) -> None:
    write(tmp_path / "staging", "2026-01-02", search="newer")
    write(sweep, "2026-01-01")
    write(sweep, "2026-01-02", search="newest")
    back_up(tmp_path / "staging", sweep)
    assert can_resume(sweep) and b"newest" in (sweep / "basic-variant-state-2026-01-02.json").read_bytes()
    cut(sweep / f"{which}-2026-01-02.json")
    assert can_resume(sweep)
    assert b"newer" in (sweep / "basic-variant-state-2026-01-02.json").read_bytes()
    assert json.loads((sweep / "experiment_state-2026-01-02.json").read_text()) == STATE


def test_without_a_backup_the_previous_session_is_the_newest(sweep: Path) -> None:
    """Also for Ray, which takes the greatest name."""
    write(sweep, "2026-01-01")
    cut(write(sweep, "2026-01-02"))
    assert can_resume(sweep)
    assert max(sweep.glob("experiment_state-*.json")).name == "experiment_state-2026-01-01.json"
    assert max(sweep.glob("basic-variant-state-*.json")).name == "basic-variant-state-2026-01-01.json"


def test_the_state_of_the_search_is_required(sweep: Path) -> None:
    """Optuna's consists of two files."""
    write(sweep, "2026-01-01")
    (sweep / "basic-variant-state-2026-01-01.json").rename(sweep / "search_gen_state-2026-01-01.json")
    (sweep / "searcher-state-2026-01-01.pkl").write_bytes(pickle.dumps("study"))
    assert can_resume(sweep)
    cut(sweep / "searcher-state-2026-01-01.pkl")
    with pytest.raises(ValueError, match="cannot be resumed"):
        can_resume(sweep)


def test_unreadable_state_is_an_error(sweep: Path) -> None:
    cut(write(sweep, "2026-01-01"))
    (sweep / BACKUP).write_bytes(b"PK")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"sweep sweep cannot be resumed: .* --run-name"):
            can_resume(sweep)


def test_a_failed_backup_leaves_the_previous_one(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = tmp_path / "staging"
    back_up(staging, sweep)  # Ray has written nothing yet
    assert not (sweep / BACKUP).exists()
    write(staging, "2026-01-01")
    back_up(staging, sweep)
    before = (sweep / BACKUP).read_bytes()
    write(staging, "2026-01-01", search="newer")
    monkeypatch.setattr(zipfile.ZipFile, "write", Mock(side_effect=OSError("No space left on device")))
    back_up(staging, sweep)
    assert (sweep / BACKUP).read_bytes() == before


def test_what_ray_brought_is_not_copied_back(tmp_path: Path) -> None:
    write(tmp_path, "2026-01-01")
    (tmp_path / "sweep.json").touch()
    (tmp_path / "ab_00000").mkdir()
    clear_staging(tmp_path)
    assert names(tmp_path) == [] and (tmp_path / "ab_00000").is_dir()


def test_the_backup_is_of_the_last_session(sweep: Path, tmp_path: Path) -> None:
    for session in ("2026-01-02", "2026-01-10", "2026-01-09"):
        write(tmp_path / "staging", session, search=session)
    back_up(tmp_path / "staging", sweep)
    assert can_resume(sweep)
    assert names(sweep) == [
        *(f"{kind}-2026-01-10.json" for kind in ("basic-variant-state", "experiment_state")),
        BACKUP,
    ]
