"""A name goes with one configuration."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime.run_record import check_name, check_unchanged, read_record, write_record


def test_records_come_back(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    assert read_record(file) is None
    write_record(file, {"a": 1})
    write_record(file, {"a": 2})
    assert read_record(file) == {"a": 2}
    assert [path.name for path in file.parent.iterdir()] == ["run.json"]


def test_other_settings_under_a_name_are_named() -> None:
    check_unchanged({"encoder.hidden": [3], "seed": 1}, {"encoder.hidden": (3,), "seed": 1}, "run a")
    with pytest.raises(ValueError, match="run a exists with other settings: seed was 1 and is 2; give those"):
        check_unchanged({"encoder.hidden": [3], "seed": 1}, {"encoder.hidden": (3,), "seed": 2}, "run a")
    many = {str(i): i for i in range(5)}
    with pytest.raises(ValueError, match="and 2 more"):
        check_unchanged({}, many, "run a")


def test_a_record_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, or the disk full, in the middle of writing."""
    file, write_text = tmp_path / "run.json", Path.write_text
    write_record(file, {"a": 1})

    def cut_off(path: Path, text: str, **options: Any) -> int:
        write_text(path, text[: len(text) // 2], **options)
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", cut_off)
    with pytest.raises(OSError, match="No space left"):
        write_record(file, {"a": 2})
    assert read_record(file) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "fine"),
    [("a-1._b", True), ("a" * 100, True), ("a" * 101, False), ("", False), (".a", False), ("a/b", False), ("é", False)],
)
def test_names_that_a_folder_and_ray_can_have(name: str, fine: bool) -> None:
    with nullcontext() if fine else pytest.raises(ValueError, match="--run-name must be a name without slashes"):
        check_name(name)
