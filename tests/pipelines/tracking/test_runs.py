import json
import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.tracking import runs
from pipelines.tracking import tracker as tracker_module
from pipelines.tracking.runs import Tracker, start_or_resume_child, start_parent
from pipelines.tracking.store import PATIENCE, connect


@pytest.fixture
def run_id(tracking_uri: str) -> str:
    return start_parent(tracking_uri, "arae-test", "run", params={"critic.steps": 5})


def curve(tracking_uri: str, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in connect(tracking_uri).get_metric_history(run_id, metric)]


def test_settings_are_parameters_under_their_dotted_names(tracking_uri: str) -> None:
    many = {f"part.setting{i}": i for i in range(205)}
    run_id = start_parent(
        tracking_uri, "arae-test", "run", params={"long": "x" * 9000, **many}, tags={"data_fingerprint": "abc"}
    )
    data = connect(tracking_uri).get_run(run_id).data
    assert data.params["part.setting204"] == "204"
    assert len(data.params) == 206
    assert len(data.params["long"]) == 6000
    assert "9000 characters" in data.params["long"]
    assert data.tags["data_fingerprint"] == "abc"


def test_a_trial_is_found_by_its_tag_and_reopened(tracking_uri: str, run_id: str) -> None:
    child = start_or_resume_child(tracking_uri, "arae-test", run_id, "trial_0", params={"seed": 1})
    other = start_or_resume_child(tracking_uri, "arae-test", run_id, "trial_1", params={"seed": 2})
    Tracker(tracking_uri, child).finish("FAILED")
    assert start_or_resume_child(tracking_uri, "arae-test", run_id, "trial_0", params={"seed": 3}) == child != other
    run = connect(tracking_uri).get_run(child)
    assert run.info.status == "RUNNING"
    assert run.data.params["seed"] == "1"
    assert run.data.tags["mlflow.parentRunId"] == run_id


def test_a_trial_of_another_sweep_is_another_run(tracking_uri: str, run_id: str) -> None:
    other_parent = start_parent(tracking_uri, "arae-test", "run", params={})
    runs = {start_or_resume_child(tracking_uri, "arae-test", p, "t0", params={}) for p in (run_id, other_parent)}
    assert len(runs) == 2


def test_resume_reopens_that_run_whatever_it_is_called(tracking_uri: str, run_id: str) -> None:
    colleagues = start_parent(tracking_uri, "arae-test", "run", params={})
    client = connect(tracking_uri)
    client.set_terminated(run_id, "KILLED")
    client.set_tag(run_id, "mlflow.runName", "the good one")
    assert start_parent(tracking_uri, "arae-test", "run", params={}, resume=run_id) == run_id != colleagues
    assert client.get_run(run_id).info.status == "RUNNING"
    client.delete_run(run_id)
    new = [start_parent(tracking_uri, "arae-test", "it's", params={}, resume=lost) for lost in (run_id, "f" * 32)]
    assert len({run_id, colleagues, *new}) == 4


def test_a_trial_that_was_lost_before_its_parameters_gets_them(
    tracking_uri: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"critic.steps": 5, "name": "x"}
    with monkeypatch.context() as patched:
        patched.setattr(runs, "_log_params", lambda *_: None)
        trial = start_or_resume_child(tracking_uri, "arae-test", run_id, "t0", params=params)
    for _ in range(2):
        assert start_or_resume_child(tracking_uri, "arae-test", run_id, "t0", params=params) == trial
    assert connect(tracking_uri).get_run(trial).data.params == {"critic.steps": "5", "name": "x"}


def test_whatever_an_artifact_store_raises_stops_nothing(
    tracking_uri: str, run_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(connect(tracking_uri), "log_artifact", away)
    Tracker(tracking_uri, run_id).artifact("a.txt", "text")
    assert "fails (No module named 'boto3'); continuing" in capsys.readouterr().err


def test_artifacts_of_a_local_store_lie_beside_it(tracking_uri: str, run_id: str, tmp_path: Path) -> None:
    tracker = Tracker(tracking_uri, run_id)
    tracker.artifact("settings.json", {"critic.steps": 5})
    tracker.artifact("samples/100.txt", "a man sleeps .\nélan\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "table.csv").write_text("a,b\n")
    tracker.artifact("tables/t.csv", tmp_path / "made" / "table.csv")
    tracker.artifact("folder", tmp_path / "made")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    tracker.figure("curves.png", figure)
    kept = tmp_path / "mlartifacts" / "arae-test" / run_id / "artifacts"
    assert json.loads((kept / "settings.json").read_text()) == {"critic.steps": 5}
    assert (kept / "samples" / "100.txt").read_text(encoding="utf-8") == "a man sleeps .\nélan\n"
    assert (kept / "tables" / "t.csv").read_text() == (kept / "folder" / "table.csv").read_text() == "a,b\n"
    assert (kept / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_artifacts_of_any_other_database_lie_in_the_storage(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow itself would put them below the folder that the command was typed in, which is a Ray job's to delete."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    uri = f"sqlite+pysqlite:///{shutil.copy(empty_database, tmp_path)}"  # a database like postgresql://, to us
    run_id = start_parent(uri, "arae-test", "run", params={}, storage=tmp_path / "runs")
    Tracker(uri, run_id).artifact("a.txt", "text")
    kept = tmp_path / "runs" / "mlartifacts" / "arae-test" / run_id / "artifacts" / "a.txt"
    assert kept.read_text() == "text" and not list((tmp_path / "here").iterdir())


def test_points_are_sent_by_flush_in_any_number(tracking_uri: str, run_id: str) -> None:
    tracker = Tracker(tracking_uri, run_id)
    for step in range(1203):
        tracker.log(step, {"loss": step / 2})
    tracker.log(3, {"bad": math.nan})
    assert curve(tracking_uri, run_id, "loss") == []
    tracker.flush()
    assert curve(tracking_uri, run_id, "loss") == [(step, step / 2) for step in range(1203)]
    assert math.isnan(curve(tracking_uri, run_id, "bad")[0][1])


@pytest.mark.parametrize("flushed", [False, True])
def test_a_restart_neither_doubles_nor_loses_points(tracking_uri: str, run_id: str, flushed: bool) -> None:
    """Killed after the checkpoint of step 2, before or after its points were sent."""
    killed = Tracker(tracking_uri, run_id)
    for step in (1, 2):
        killed.log(step, {"loss": 1 / step})
    in_checkpoint = json.loads(json.dumps(killed.unsent()))
    if flushed:
        killed.flush()
    killed.log(3, {"loss": 99.0})  # past the checkpoint: will be computed again
    resumed = Tracker(tracking_uri, run_id, in_checkpoint)
    resumed.log(3, {"loss": 1 / 3})
    resumed.finish()
    assert curve(tracking_uri, run_id, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert connect(tracking_uri).get_run(run_id).info.status == "FINISHED"


def test_what_is_done_again_is_not_sent_again(tracking_uri: str, run_id: str) -> None:
    """Killed after points past the checkpoint of step 1 were sent: they come again, at other times."""
    killed = Tracker(tracking_uri, run_id)
    for step in (1, 2, 3):
        killed.log(step, {"loss": 1 / step})
    killed.flush()
    resumed = Tracker(tracking_uri, run_id, [("loss", 1.0, 1, 1)], resumed=True)
    for step in (2, 3, 4):
        resumed.log(step, {"loss": 1 / step, "new": 1.0})
        resumed.flush()
    assert curve(tracking_uri, run_id, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    assert curve(tracking_uri, run_id, "new") == [(2, 1.0), (3, 1.0), (4, 1.0)]


def test_a_failing_tracker_warns_once_and_keeps_the_points(
    tracking_uri: str, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, client = Tracker(tracking_uri, run_id), connect(tracking_uri)
    client.delete_run(run_id)  # a store that refuses to write
    for step in (1, 2):
        tracker.log(step, {"loss": float(step)})
        tracker.flush()
    warnings = capsys.readouterr().err
    assert warnings.count("warning: MLflow at sqlite:") == 1
    client.restore_run(run_id)
    tracker.flush()
    assert curve(tracking_uri, run_id, "loss") == [(1, 1.0), (2, 2.0)]


def test_another_process_writes_to_the_same_run(tracking_uri: str, run_id: str, tmp_path: Path) -> None:
    tracker = Tracker(tracking_uri, run_id)
    tracker.log(1, {"loss": 1.0})
    (tmp_path / "tracker").write_bytes(pickle.dumps(tracker))
    program = """
import pickle, sys
tracker = pickle.load(open(sys.argv[1], "rb"))
tracker.log(2, {"loss": 0.5})
tracker.flush()
"""
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tracker")],
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert curve(tracking_uri, run_id, "loss") == [(1, 1.0), (2, 0.5)]


def test_the_commit_is_noted_in_a_checkout_only(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outside = start_parent(tracking_uri, "arae-test", "outside", params={})
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    inside = start_parent(tracking_uri, "arae-test", "inside", params={})
    tags = {run: connect(tracking_uri).get_run(run).data.tags for run in (outside, inside)}
    assert tags[inside]["mlflow.source.git.commit"] == head
    assert "mlflow.source.git.commit" not in tags[outside]


def test_a_deleted_experiment_says_how_to_get_it_back(tracking_uri: str, run_id: str) -> None:
    client = connect(tracking_uri)
    client.delete_experiment(client.get_run(run_id).info.experiment_id)
    with pytest.raises(ValueError, match=r"is deleted; restore it with `mlflow experiments restore"):
        start_parent(tracking_uri, "arae-test", "run", params={})


__all__ = ["run_id"]


def test_a_point_of_the_moment_in_which_a_life_begins_is_of_that_life(tracking_uri: str, run_id: str) -> None:
    """One that is as old as the step of the life before that comes again, and is another point."""
    Tracker(tracking_uri, run_id, [("loss", 0.7, 1000, 3)]).flush()
    lives = [(900, "first"), (2000, "second")]
    Tracker(tracking_uri, run_id, [("loss", 0.5, 2000, 3)], resumed=True, lineages=lives).flush()
    assert curve(tracking_uri, run_id, "loss") == [(3, 0.7), (3, 0.5)]


def test_nothing_is_sent_before_it_is_known_what_has_been(
    tracking_uri: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that fails to answer the question would take the points twice."""
    Tracker(tracking_uri, run_id, [("loss", 0.7, 1000, 3)]).flush()
    resumed = Tracker(tracking_uri, run_id, [("loss", 0.7, 2000, 3), ("loss", 0.5, 2001, 6)], resumed=True)

    def away(*_: object) -> None:
        raise ConnectionError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(connect(tracking_uri), "get_metric_history", away)
        resumed.flush()
    assert curve(tracking_uri, run_id, "loss") == [(3, 0.7)]
    resumed.flush()
    assert curve(tracking_uri, run_id, "loss") == [(3, 0.7), (6, 0.5)]


def test_an_experiment_that_another_process_makes_first_is_used(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials begin at the same moment."""
    client = connect(tracking_uri)
    create, made = client.create_experiment, list[str]()

    def beaten(name: str, **options: Any) -> str:
        made.append(create(name, **options))
        return create(name, **options)  # which is there by now

    monkeypatch.setattr(client, "create_experiment", beaten)
    run_id = start_parent(tracking_uri, "arae-new", "run", params={})
    assert [client.get_run(run_id).info.experiment_id] == made


@pytest.mark.parametrize(("status", "waits"), [("KILLED", False), ("FINISHED", True), ("FAILED", True)])
def test_only_who_is_killed_does_not_wait_for_a_server_that_is_away(
    status: str, waits: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what could not be sent in the end is told of."""
    clock, sent = [0.0], list[str]()

    def sleep(seconds: float) -> None:
        clock[0] += 10 * seconds

    monkeypatch.setattr(tracker_module, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    tracker = Tracker("http://nowhere.invalid:1", "a run", [("loss", 0.5, 1000, 3), ("loss", 0.4, 1001, 6)])

    def send(request: str, *_: object, **__: object) -> bool:
        sent.append(request)
        return request != "log_batch"

    monkeypatch.setattr(tracker, "_send", send)
    tracker.finish(status)
    assert (clock[0] >= PATIENCE) == waits and sent[-1] == "set_terminated"
    assert "warning: 2 points of the curves could not be sent to MLflow" in capsys.readouterr().err
