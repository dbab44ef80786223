"""train.py end to end: a run that is killed and resumes, divergence, Ctrl-C, and a model used from the registry."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipelines import transfer
from pipelines.runtime import cluster
from pipelines.train import main
from pipelines.training.worker import Task
from tests.pipelines.small import SMALL, last_checkpoint, step_of, train_alone, weights

ROOT = Path(__file__).resolve().parents[2]


def spelled(settings: dict[str, Any]) -> list[str]:
    """Return settings as words of a command line."""
    words = []
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += ["--" + (name if "." in name else name.replace("_", "-")), text]
    return words


def command(file: str, storage: Path, tracking_uri: str, *words: str, **changes: Any) -> list[str]:
    shared = ["--storage", str(storage), "--tracking-uri", tracking_uri, "--json"]
    return [sys.executable, str(ROOT / "pipelines" / file), *spelled({**SMALL, **changes}), *shared, *words]


def wait_for(condition: Any, process: "subprocess.Popen[str]", seconds: float = 1000) -> None:
    """Wait until the condition holds; fail if the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_model_with_an_attribute_transfers_from_the_registry(
    tmp_path: Path,
    tracking_uri: str,
    room: cluster.Room,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "running", lambda: nullcontext(room))
    given = ["--config", "grammar-sentiment", "--encoder.marker_ratio", "5"]
    given += ["--encoder.weight_decay", "0.1", "--cooldown", "0.5"]
    words = command("train.py", tmp_path, tracking_uri, *given, **{"iterations": 40})[2:]
    status, out = main(words), capsys.readouterr().out
    assert status == 0 and "another class" in out and "transfer accuracy" in out
    results = json.loads(out.splitlines()[-1])
    assert results["model"] == "arae-grammar-sentiment" and "transfer_score" in results["metrics"]
    sentences = "a sad man sleeps .\na rude man sleeps .\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sentences.encode())))
    wanted = ["--model", "models:/arae-grammar-sentiment@champion", "--to", "positive", "--pairs"]
    assert transfer.main([*wanted, "--tracking-uri", tracking_uri]) == 0
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [source for source, _ in said] == sentences.splitlines()
    assert said[0][1] == said[1][1], "the attribute's markers are hidden"


@pytest.mark.fault
def test_a_killed_driver_resumes_exactly(make_task: Callable[..., Task], tmp_path: Path, tracking_uri: str) -> None:
    """After SIGKILL, the same command gives every tensor of an uninterrupted run, and registers the model.

    All have one CPU: sums depend on the number of threads.
    """
    from pipelines.tracking.registry import resolve

    long = {"iterations": 600, "evaluate_every": 100, "log_every": 10}
    words = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    words += command("train.py", tmp_path, tracking_uri, "--run-name", "killed", **long)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        snapshot = tmp_path / "trainings" / "killed" / "checkpoint_manager_snapshot.json"
        wait_for(lambda: snapshot.exists() and "checkpoint_" in snapshot.read_text(), process)
        process.send_signal(signal.SIGKILL)
    assert step_of(last_checkpoint(snapshot.parent)) < 600
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "resuming run killed" in again.stdout
    undisturbed = train_alone(make_task(**long), tmp_path / "alone")
    assert weights(last_checkpoint(snapshot.parent)) == weights(undisturbed)
    results = json.loads(again.stdout.splitlines()[-1])
    assert results["model_version"] == 1 and Path(results["checkpoint"]).is_dir()
    assert resolve("models:/arae-grammar@champion", tracking_uri).is_dir()


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


@pytest.mark.parametrize("checkpoint", [None, "best"])
def test_a_training_that_diverges_fails_and_mlflow_gets_its_points(
    checkpoint: str | None,
    tmp_path: Path,
    tracking_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker, which could not reach MLflow, left a point to send."""
    from pipelines.tracking.store import connect
    from pipelines.training import trainer

    room, best = cluster.Room(2, 0, 2, 0, attached=False), Path(checkpoint) if checkpoint else None
    result = trainer.TrainingResult({}, best, "it diverged", [["loss", 0.5, 1000, 6]])
    monkeypatch.setattr(cluster, "running", lambda: nullcontext(room))
    monkeypatch.setattr(cluster, "this_machine", lambda: room)
    monkeypatch.setattr(trainer, "fit", lambda *_: result)
    words = command("train.py", tmp_path, tracking_uri, "--run-name", "mine")[2:]
    assert main(words) == 1
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "it diverged; " in error and ("best checkpoint is best" in error) == bool(checkpoint)
    client, file = connect(tracking_uri), tmp_path / "trainings" / "mine" / "run.json"
    run_id = json.loads(file.read_text())["run_id"]
    assert client.get_run(run_id).info.status == "FAILED"
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")] == [(6, 0.5)]
