"""What Ray Tune keeps of a sweep is missing, or cut off: where the sweep then goes on from."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.sweeps.tune_state import BACKUP, back_up, can_go_on, clear_staging

STATE: dict[str, Any] = {"trial_data": [["trial", "figures"]], "runner_data": {}}


def write(folder: Path, session: str, state: Any = STATE, search: Any = ("a", "b")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"basic-variant-state-{session}.json").write_bytes(pickle.dumps(search))
    file = folder / f"experiment_state-{session}.json"
    file.write_text(json.dumps(state))
    return file


def cut(file: Path) -> None:
    """As a kill in the middle of writing does."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*") if file.is_file())


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep's folder, of which a trial has come to a checkpoint."""
    (tmp_path / "sweep" / "ab_00000" / "checkpoint_000000").mkdir(parents=True)
    return tmp_path / "sweep"


def test_nothing_has_run_yet(tmp_path: Path) -> None:
    """Killed before the first state, while that was written, or by Ctrl-C before the first trial."""
    (tmp_path / "tuner.pkl").touch()
    assert not can_go_on(tmp_path)
    write(tmp_path, "2026-01-01", {"trial_data": []})
    assert not can_go_on(tmp_path)
    cut(write(tmp_path, "2026-01-02"))
    assert not can_go_on(tmp_path)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("which", ["experiment_state", "basic-variant-state"])
def test_what_is_cut_off_comes_from_the_copy(sweep: Path, tmp_path: Path, which: str) -> None:
    write(tmp_path / "staging", "2026-01-02", search="newer")
    write(sweep, "2026-01-01")
    write(sweep, "2026-01-02", search="newest")
    back_up(tmp_path / "staging", sweep)
    assert can_go_on(sweep) and b"newest" in (sweep / "basic-variant-state-2026-01-02.json").read_bytes()
    cut(sweep / f"{which}-2026-01-02.json")
    assert can_go_on(sweep)
    assert b"newer" in (sweep / "basic-variant-state-2026-01-02.json").read_bytes()
    assert json.loads((sweep / "experiment_state-2026-01-02.json").read_text()) == STATE


def test_without_a_copy_the_session_before_is_the_newest(sweep: Path) -> None:
    """For Ray, too, which takes the greatest name."""
    write(sweep, "2026-01-01")
    cut(write(sweep, "2026-01-02"))
    assert can_go_on(sweep)
    assert max(sweep.glob("experiment_state-*.json")).name == "experiment_state-2026-01-01.json"
    assert max(sweep.glob("basic-variant-state-*.json")).name == "basic-variant-state-2026-01-01.json"


def test_all_files_are_gone_but_the_copy(sweep: Path, tmp_path: Path) -> None:
    write(tmp_path / "staging", "2026-01-02")
    back_up(tmp_path / "staging", sweep)
    assert can_go_on(sweep) and (sweep / "experiment_state-2026-01-02.json").exists()


def test_what_is_left_to_be_tried_must_be_there(sweep: Path) -> None:
    """Optuna's is in two files."""
    write(sweep, "2026-01-01")
    (sweep / "basic-variant-state-2026-01-01.json").rename(sweep / "search_gen_state-2026-01-01.json")
    (sweep / "searcher-state-2026-01-01.pkl").write_bytes(pickle.dumps("study"))
    assert can_go_on(sweep)
    cut(sweep / "searcher-state-2026-01-01.pkl")
    with pytest.raises(ValueError, match="cannot go on"):
        can_go_on(sweep)


def test_where_nothing_can_be_read_the_user_is_told(sweep: Path) -> None:
    cut(write(sweep, "2026-01-01"))
    (sweep / BACKUP).write_bytes(b"PK")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"sweep sweep cannot go on: .*2026-01-01|\*.* under another --run-name"):
            can_go_on(sweep)


def test_a_copy_that_fails_leaves_the_one_before(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = tmp_path / "staging"
    back_up(staging, sweep)  # where Ray has written nothing yet
    assert not (sweep / BACKUP).exists()
    write(staging, "2026-01-01")
    back_up(staging, sweep)
    before = (sweep / BACKUP).read_bytes()
    write(staging, "2026-01-01", search="newer")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    back_up(staging, sweep)
    assert (sweep / BACKUP).read_bytes() == before


def test_what_ray_brought_is_not_copied_back(tmp_path: Path) -> None:
    write(tmp_path, "2026-01-01")
    (tmp_path / "sweep.json").touch()
    (tmp_path / "ab_00000").mkdir()
    clear_staging(tmp_path)
    assert names(tmp_path) == [] and (tmp_path / "ab_00000").is_dir()


def test_the_copy_is_of_the_last_start(sweep: Path, tmp_path: Path) -> None:
    """What earlier ones have left knows less of the trials."""
    for session in ("2026-01-02", "2026-01-10", "2026-01-09"):
        write(tmp_path / "staging", session, search=session)
    back_up(tmp_path / "staging", sweep)
    assert can_go_on(sweep)
    assert names(sweep) == [
        "basic-variant-state-2026-01-10.json",
        "experiment_state-2026-01-10.json",
        BACKUP,
    ]
