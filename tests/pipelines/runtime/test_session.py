from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime import run_lock
from pipelines.runtime.run_record import read_record
from pipelines.runtime.session import NamedRun, Session, find_run, open_session, resume_command
from pipelines.tracking.store import connect

Open = Callable[..., Session]


@pytest.fixture
def reopen(tmp_path: Path, tracking_uri: str) -> Open:
    """reopen(seed=3): a session of the run "mine" in `tmp_path`, with these settings."""

    def open_mine(has_trials: bool = False, check: Callable[[], object] = lambda: None, **settings: Any) -> Session:
        named, settings = find_run(tmp_path, "mine", ""), {"name": "grammar", "seed": 0, **settings}
        named.check_settings(settings, frozenset({"workers"}))
        named.check_data({"data": [1]})
        record = named.record or {"settings": settings, "data": [1]}
        options: dict[str, Any] = {"has_trials": has_trials, "check": check}
        return open_session(named, record, tracking_uri, settings, {"command": "x"}, tmp_path, "resume me", **options)

    return open_mine


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError("broken"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_the_end_of_the_block_ends_the_run_and_unlocks_its_folder(
    error: BaseException | None, status: str, reopen: Open, tmp_path: Path, tracking_uri: str
) -> None:
    from pipelines.tracking.runs import start_or_resume_child

    client = connect(tracking_uri)
    ended = pytest.raises(type(error), match=r"broken|resume me") if error else nullcontext()
    with ended, reopen(has_trials=True) as session:
        assert (tmp_path / "mine" / run_lock.NAME).exists()
        assert client.get_run(session.run_id).info.status == "RUNNING"
        child = start_or_resume_child(tracking_uri, "arae-grammar", session.run_id, "trial_0", params={})
        if error:
            raise error
    assert client.get_run(session.run_id).info.status == status
    assert client.get_run(child).info.status == ("KILLED" if error else "RUNNING")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["run.json"]


def test_a_run_resumes_with_its_settings_its_data_and_its_mlflow_run(
    reopen: Open, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    assert not find_run(tmp_path, "mine", "").notes()
    with reopen(workers=1) as first, pytest.raises(ValueError, match="run mine is in use"):
        reopen(workers=1)
    with reopen(workers=2) as second:
        assert second.run_id == first.run_id
        assert second.named.notes() == ["resuming run mine"]
    run = connect(tracking_uri).get_run(first.run_id)
    assert (run.info.run_name, run.data.tags["command"], run.data.params["seed"]) == ("mine", "x", "0")
    with pytest.raises(ValueError, match=r"run mine .*seed was 0 and is 7"):
        reopen(seed=7)
    with pytest.raises(ValueError, match=r"run mine .*data was \[1\] and is \[2\]"):
        find_run(tmp_path, "mine", "").check_data({"data": [2]})


def test_a_failed_check_changes_nothing(reopen: Open, tmp_path: Path, tracking_uri: str) -> None:
    def check() -> None:
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        reopen(check=check)
    assert list((tmp_path / "mine").iterdir()) == []
    assert connect(tracking_uri).get_experiment_by_name("arae-grammar") is None


def test_points_that_a_worker_could_not_send_are_sent_once(reopen: Open, tracking_uri: str) -> None:
    with reopen() as session:
        session.tracker.log(3, {"loss": 0.7})
        session.tracker.flush()
        session.open_tracker([["loss", 0.7, 950, 3], ["loss", 0.5, 1000, 6]])
    points = connect(tracking_uri).get_metric_history(session.run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [(3, 0.7), (6, 0.5)]


def test_names(tmp_path: Path) -> None:
    assert find_run(tmp_path, "", "grammar").name.startswith("grammar-2")
    assert find_run(tmp_path, "mine", "grammar", "sweep") == NamedRun(tmp_path / "mine", "sweep")
    assert find_run(tmp_path, "mine", "grammar", "sweep").file == tmp_path / "mine" / "sweep.json"
    assert read_record(tmp_path / "mine" / "sweep.json") is None
    with pytest.raises(ValueError, match="--run-name"):
        find_run(tmp_path, "..", "grammar")


@pytest.mark.parametrize("named", [[], ["--run-name", "mine"], ["--run_name=mine"]])
@pytest.mark.parametrize(("program", "command"), [("arae train", "arae train"), ("x.py", " pipelines/train.py")])
def test_resume_command_has_a_name(
    named: list[str], program: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program])
    words = ["--config", "snli", "--storage", "a b"]
    ending = f"{command} --config snli --storage 'a b' {' '.join(named or ['--run-name', 'mine'])}"
    assert resume_command("train", [*words, *named], "mine").endswith(ending)
