"""A run's name goes with one configuration."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from arae_core.settings.tree import flatten
from pipelines.experiment.presets import preset
from pipelines.runtime.run_record import check_name, check_unchanged, read_record, write_record


def test_a_record_is_read_as_last_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.json"
    assert read_record(file) is None
    write_record(file, {"a": 1})
    write_record(file, {"a": 2})
    assert read_record(file) == {"a": 2}
    assert [path.name for path in file.parent.iterdir()] == ["run.json"]


def test_changed_settings_are_refused_by_name() -> None:
    stored = {"encoder.hidden": [3], "seed": 1}
    check_unchanged(stored, {"encoder.hidden": (3,), "seed": 1}, "run a")
    check_unchanged(stored, {"seed": 2}, "run a", changeable=frozenset({"seed"}))
    with pytest.raises(ValueError, match=r"run a .*: seed was 1 and is 2;"):
        check_unchanged(stored, {"encoder.hidden": (3,), "seed": 2}, "run a")
    with pytest.raises(ValueError, match="and 2 more"):
        check_unchanged({}, {str(i): i for i in range(5)}, "run a")


def test_a_record_of_an_earlier_version_is_compared_under_todays_names() -> None:
    settings = flatten(preset("grammar"))
    added = {"prior.kind", "code.kind", "encoder.kind", "decoder.kind"}
    old = {name: value for name, value in settings.items() if name not in added}
    check_unchanged({**old, "generator.kind": "mlp", "code.unit_sphere": True}, settings, "run a")
    with pytest.raises(ValueError, match=r"code.kind was 'euclidean' and is 'sphere'"):
        check_unchanged({**old, "generator.kind": "mlp", "code.unit_sphere": False}, settings, "run a")
    with pytest.raises(ValueError, match=r"prior.kind was 'gaussian' and is 'auto'"):
        check_unchanged({**old, "generator.kind": "gaussian", "code.unit_sphere": True}, settings, "run a")


@pytest.mark.parametrize(
    ("name", "fine"),
    [("a-1._b", True), ("a" * 100, True), ("a" * 101, False), ("", False), (".a", False), ("a/b", False), ("é", False)],
)
def test_names_that_a_folder_and_ray_accept(name: str, fine: bool) -> None:
    with nullcontext() if fine else pytest.raises(ValueError, match="--run-name must be"):
        check_name(name)
