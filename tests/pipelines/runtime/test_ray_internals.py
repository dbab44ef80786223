"""Clean-up of what Ray leaves behind."""

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.runtime.ray_internals import drop_unfinished, release_resources


def test_only_this_drivers_placement_groups_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    placement_group = import_module("ray.util.placement_group")  # a function has the same name
    own, others = "02000000", "01000000"
    states = ((own, "CREATED"), (others, "CREATED"), (own, "REMOVED"), (own, "PENDING"))
    table = {f"{i:028x}{job}": {"state": state} for i, (job, state) in enumerate(states)}
    removed = list[Any]()
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: own))
    monkeypatch.setattr(placement_group, "placement_group_table", lambda: table)
    monkeypatch.setattr(placement_group, "remove_placement_group", lambda group: removed.append(group.id.hex()))
    release_resources()
    assert removed == [f"{i:028x}{own}" for i in (0, 3)]


def test_checkpoints_that_ray_knows_are_kept(tmp_path: Path) -> None:
    for name in ("checkpoint_1", "checkpoint_2", "workers"):
        (tmp_path / name).mkdir()
    known = [{"checkpoint_dir_name": "checkpoint_1", "metrics": {}}]
    (tmp_path / "checkpoint_manager_snapshot.json").write_text(json.dumps({"checkpoint_results": known}))
    drop_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["checkpoint_1", "workers"]
