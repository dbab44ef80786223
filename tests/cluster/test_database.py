"""PostgreSQL itself as --tracking-uri, without an MLflow server."""

from pathlib import Path

import pytest

from tests.cluster.machines import Tracking

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_artifacts_of_runs_are_in_the_storage_folder(
    tracking: Tracking, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.tracking.runs import start_parent
    from pipelines.tracking.store import open_tracking
    from pipelines.tracking.tracker import Tracker

    monkeypatch.chdir(tmp_path)
    uri = open_tracking(tracking.store)
    run_id = start_parent(uri, "arae-direct", "run", params={}, storage=shared)
    Tracker(uri, run_id).artifact("a.txt", "text")
    assert (shared / "mlartifacts" / "arae-direct" / run_id / "artifacts" / "a.txt").read_text() == "text"
    assert not list(tmp_path.iterdir())
