"""train.py that is killed and resumes, that diverges, and that is stopped with Ctrl-C."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.training.worker import Task
from tests.pipelines.small import last_checkpoint, step_of, train_alone, weights
from tests.pipelines.test_train import command, wait_for


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
