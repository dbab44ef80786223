"""A name goes with one configuration."""

from pathlib import Path

import pytest

from pipelines.engine.records import check_same, read_record, write_record


def test_records_come_back(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    assert read_record(file) is None
    write_record(file, {"a": 1})
    write_record(file, {"a": 2})
    assert read_record(file) == {"a": 2}
    assert [path.name for path in file.parent.iterdir()] == ["run.json"]


def test_other_settings_under_a_name_are_named() -> None:
    check_same({"encoder.hidden": [3], "seed": 1}, {"encoder.hidden": (3,), "seed": 1}, "run a")
    with pytest.raises(ValueError, match="run a exists with other settings: seed was 1 and is 2; give those"):
        check_same({"encoder.hidden": [3], "seed": 1}, {"encoder.hidden": (3,), "seed": 2}, "run a")
    many = {str(i): i for i in range(5)}
    with pytest.raises(ValueError, match="and 2 more"):
        check_same({}, many, "run a")
