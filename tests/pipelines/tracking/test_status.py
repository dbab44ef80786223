"""Whether a run is there, and going on."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from pipelines.tracking.runs import Tracker, start_or_resume_child, start_parent
from pipelines.tracking.status import end_children, has_run
from pipelines.tracking.store import connect


def test_a_run_is_there_until_it_is_deleted(tracking_uri: str) -> None:
    run_id = start_parent(tracking_uri, "arae-test", "run", params={})
    assert has_run(tracking_uri, run_id) and not has_run(tracking_uri, "0" * 32)
    connect(tracking_uri).delete_run(run_id)
    assert not has_run(tracking_uri, run_id)


def test_children_that_nobody_ended_are_ended(tracking_uri: str) -> None:
    """And no run of another sweep, nor one that has ended."""
    mine, other = (start_parent(tracking_uri, "arae-test", name, params={}) for name in "ab")
    started = [start_or_resume_child(tracking_uri, "arae-test", mine, f"t{i}", params={}) for i in range(3)]
    started.append(start_or_resume_child(tracking_uri, "arae-test", other, "t0", params={}))
    Tracker(tracking_uri, started[0]).finish()
    end_children(tracking_uri, mine, "KILLED")
    states = [connect(tracking_uri).get_run(run_id).info.status for run_id in [*started, mine]]
    assert states == ["FINISHED", "KILLED", "KILLED", "RUNNING", "RUNNING"]


def test_a_tracker_that_fails_gives_a_warning(tracking_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    end_children(tracking_uri, "0" * 32, "KILLED")
    assert capsys.readouterr().err.startswith(f"warning: MLflow at {tracking_uri} fails")


def test_a_server_that_cannot_say_is_no_run_that_is_gone(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training would begin another one beside it."""

    def away(_: str) -> None:
        raise MlflowException("try again", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(connect(tracking_uri), "get_run", away)
    with pytest.raises(MlflowException, match="try again"):
        has_run(tracking_uri, "0" * 32)
