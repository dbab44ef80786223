"""train.py as it is typed. What kills a run, and the same command after it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime import cluster, run_lock
from pipelines.train import main
from pipelines.training.trainer import Outcome
from tests.pipelines.small import SMALL, last_checkpoint, step_of, weights

ROOT = Path(__file__).resolve().parents[2]


def spelled(settings: dict[str, Any]) -> list[str]:
    """Settings as they are typed."""
    words = []
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += ["--" + (name if "." in name else name.replace("_", "-")), text]
    return words


def command(file: str, storage: Path, tracking_uri: str, *words: str, **changes: Any) -> list[str]:
    shared = ["--storage", str(storage), "--tracking-uri", tracking_uri, "--json"]
    return [sys.executable, str(ROOT / "pipelines" / file), *spelled({**SMALL, **changes}), *shared, *words]


def wait_for(condition: Any, process: "subprocess.Popen[str]", seconds: float = 1000) -> None:
    """Until it holds; fails when the process has ended before or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "3000", "--batch-size", "3000"], "workers must be <= "),
        (["--storage", "/dev/null/here"], "--storage /dev/null/here cannot be written to"),
        (["--run-name", "a/b"], "--run-name must be a name without slashes"),
        (["--run-name", ".."], "--run-name must be a name without slashes"),
        (["--run-name", "\u00fcber"], "of at most 100 letters (a to z), digits, '.', '_' and '-', got '\u00fcber'"),
        (["--tracking-uri", "sqlite://"], "--tracking-uri must be sqlite:///FILE"),
        (["--storage", "s3://bucket/runs"], "--storage must be a folder, one that all nodes see, not an address"),
        (["--critic.step", "3"], "did you mean --critic.steps"),
        (["--tracking-uri", "http://127.0.0.1:1"], "no MLflow server answers there"),
        (["--batch-size", "9999"], "batch_size must be <= "),
        (["--device", "cuda"], "device must be cpu or auto here"),
    ],
)
@pytest.mark.usefixtures("ray_stays_off")
def test_mistakes_are_told_before_ray_starts(
    words: list[str],
    message: str,
    tmp_path: Path,
    tracking_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "this_machine", lambda: cluster.Room(2, 0, 2, 0, attached=False))
    shared = ["--storage", str(tmp_path), "--tracking-uri", tracking_uri, *spelled({"data.size": 600})]
    assert main([*shared, *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err


@pytest.mark.usefixtures("ray_stays_off")
def test_a_mistyped_source_is_told_before_the_server_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data.source", "gramar.txt", "--tracking-uri", "http://127.0.0.1:1"]) == 2
    assert "there is no file or folder 'gramar.txt'" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_stays_off")
def test_a_name_is_not_worked_on_twice_at_a_time(
    tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    release = run_lock.acquire(tmp_path / "trainings" / "mine", "run mine")
    words = command("train.py", tmp_path, tracking_uri, "--run-name", "mine")[2:]
    assert main(words) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: run mine is being worked on by process {os.getpid()} on ")
    release()
    assert not list((tmp_path / "trainings" / "mine").iterdir())


def test_a_name_goes_with_one_configuration(
    tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from arae_core.settings.tree import flatten
    from pipelines.experiment.presets import preset
    from pipelines.runtime.run_record import write_record

    record = {"settings": flatten(preset("grammar")), "data_fingerprint": "", "run_id": ""}
    write_record(tmp_path / "trainings" / "mine" / "run.json", record)
    words = ["--storage", str(tmp_path), "--tracking-uri", tracking_uri, "--run-name", "mine"]
    assert main([*words, "--seed", "7", "--critic.steps", "2"]) == 2
    message = "run mine exists with other settings: seed was 0 and is 7, critic.steps was 5 and is 2"
    assert message in capsys.readouterr().err


def test_from_labelled_sentences_to_a_transfer_by_the_registry(tmp_path: Path, tracking_uri: str) -> None:
    """The commands as they are typed: train with an attribute, its markers hidden, then say sentences again."""
    given = ["--config", "grammar-sentiment", "--encoder.marker_ratio", "5"]
    given += ["--encoder.weight_decay", "0.1", "--cooldown", "0.5"]
    words = command("train.py", tmp_path, tracking_uri, *given, **{"iterations": 40})
    trained = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "as of another class" in trained.stdout and "transfer accuracy" in trained.stdout
    results = json.loads(trained.stdout.splitlines()[-1])
    assert results["model"] == "arae-grammar-sentiment" and "transfer_score" in results["metrics"]
    again = [sys.executable, str(ROOT / "pipelines" / "transfer.py"), "--tracking-uri", tracking_uri]
    wanted = ["--model", "models:/arae-grammar-sentiment@champion", "--to", "positive", "--pairs"]
    sentences = "a sad man sleeps .\na rude man sleeps .\n"
    done = subprocess.run([*again, *wanted], input=sentences, capture_output=True, text=True, check=True)
    said = [line.split("\t") for line in done.stdout.splitlines()]
    assert [source for source, _ in said] == sentences.splitlines()
    assert said[0][1] == said[1][1], "the model that came from the registry knows what it hides"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_changes_nothing(tmp_path: Path, tracking_uri: str) -> None:
    """SIGKILL in mid-run, then the same command: every tensor as in a run left alone; the model is in the registry."""
    from pipelines.tracking.registry import resolve

    long = {"iterations": 600, "evaluate_every": 100, "log_every": 10}
    straight = subprocess.run(
        command("train.py", tmp_path, tracking_uri, "--run-name", "left", "--no-register", **long),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(straight.stdout.splitlines()[-1])["model_version"] is None
    words = command("train.py", tmp_path, tracking_uri, "--run-name", "killed", **long)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        snapshot = tmp_path / "trainings" / "killed" / "checkpoint_manager_snapshot.json"
        wait_for(lambda: snapshot.exists() and "checkpoint_" in snapshot.read_text(), process)
        process.send_signal(signal.SIGKILL)
    assert step_of(last_checkpoint(snapshot.parent)) < 600
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "going on with run killed" in again.stdout
    assert weights(last_checkpoint(snapshot.parent)) == weights(last_checkpoint(tmp_path / "trainings" / "left"))
    results = json.loads(again.stdout.splitlines()[-1])
    assert results["model_version"] == 1 and Path(results["checkpoint"]).is_dir()
    assert resolve("models:/arae-grammar@champion", tracking_uri).is_dir()
    third = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(third.stdout.splitlines()[-1])["model_version"] == 1  # not registered twice


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_divergence_and_ctrl_c(tmp_path: Path, tracking_uri: str) -> None:
    wild = {"encoder.learning_rate": 1e38, "decoder.learning_rate": 1e38}
    words = command("train.py", tmp_path, tracking_uri, **wild)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "not finite" in done.stderr and "Lower the learning rates" in done.stderr
    words = command("train.py", tmp_path, tracking_uri, **{"iterations": 100_000})
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(tmp_path.glob("trainings/*/checkpoint_*/manifest.json")), process)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "python pipelines/train.py" in err and "to continue: " in err and "--run-name grammar-" in err


@pytest.fixture
def trained(tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], int]:
    """trained(ended): the status of train.py, whose training ends so, under the name mine."""
    from pipelines.training import trainer

    @contextmanager
    def running() -> Iterator[cluster.Room]:
        yield cluster.Room(2, 0, 2, 0, attached=False)

    def command(ended: Any) -> int:
        def fit(*_: object) -> Outcome:
            if isinstance(ended, BaseException):
                raise ended
            assert isinstance(ended, Outcome)
            return ended

        monkeypatch.setattr(cluster, "running", running)
        monkeypatch.setattr(cluster, "this_machine", lambda: cluster.Room(2, 0, 2, 0, attached=False))
        monkeypatch.setattr(trainer, "fit", fit)
        words = ["--run-name", "mine", "--storage", str(tmp_path), "--tracking-uri", tracking_uri]
        return main([*spelled(SMALL), *words])

    return command


def test_mlflow_gets_the_end_of_a_training_and_what_its_worker_could_not_send(
    trained: Callable[[Any], int], tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.tracking.store import connect

    client, file = connect(tracking_uri), tmp_path / "trainings" / "mine" / "run.json"
    assert trained(KeyboardInterrupt()) == 130
    run_id = json.loads(file.read_text())["run_id"]
    assert client.get_run(run_id).info.status == "KILLED"
    client.log_metric(run_id, "loss", 0.7, timestamp=900, step=3)
    points = [["loss", 0.7, 950, 3], ["loss", 0.5, 1000, 6]]  # of which the first was sent before a restart
    assert trained(Outcome({}, None, "it diverged", points)) == 1
    assert "error: it diverged; no checkpoint was made" in capsys.readouterr().err
    assert json.loads(file.read_text())["run_id"] == run_id and client.get_run(run_id).info.status == "FAILED"
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")] == [(3, 0.7), (6, 0.5)]


def test_a_name_goes_with_one_corpus(
    trained: Callable[[Any], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(KeyboardInterrupt()) == 130
    file = tmp_path / "trainings" / "mine" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data_fingerprint": "other data"}))
    assert trained(KeyboardInterrupt()) == 2
    assert "run mine exists with other settings: data_fingerprint was 'other data' and is" in capsys.readouterr().err
