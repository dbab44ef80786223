"""PostgreSQL as --tracking-uri itself, without an MLflow server before it."""

from pathlib import Path

import pytest

from tests.cluster.machines import Tracking

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_files_of_runs_lie_in_the_storage(
    tracking: Tracking, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.tracking.runs import Tracker, open_tracking, start_parent

    monkeypatch.chdir(tmp_path)
    uri = open_tracking(tracking.store)
    run_id = start_parent(uri, "arae-direct", "run", params={}, storage=shared)
    Tracker(uri, run_id).artifact("a.txt", "text")
    assert (shared / "mlartifacts" / "arae-direct" / run_id / "artifacts" / "a.txt").read_text() == "text"
    assert not list(tmp_path.iterdir())
