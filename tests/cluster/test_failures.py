"""Failures in the middle of a job. Trainings end with the weights of an undisturbed one, bit for bit; sweeps run every
trial once; curves have neither gaps nor duplicates."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL
from tests.cluster.machines import Cluster, Job, Tracking, wait_until
from tests.pipelines.small import last_checkpoint, step_of, weights

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
TRAINING = ["pipelines/train.py", *SMALL, "--batch-size", "16", "--iterations", "240", "--workers", "3"]
TRAINING += ["--evaluate-every", "40", "--log-every", "10", "--run-name"]
SWEEP = ["pipelines/tune.py", *SMALL, "--batch-size", "16", "--iterations", "200", "--trials", "6"]
SWEEP += ["--scheduler", "none", "--evaluate-every", "50", "--log-every", "10", "--run-name"]
RECOVERY = os.environ.get("ARAE_TEST_RECOVERY", "")
"""JSON file for the recovery times, if any."""
WORKER, TRIAL = "RayTrainWorker", "ImplicitFunc"
"""Parts of Ray's names for the processes of trainings and of trials."""

Disturb = Callable[[Cluster, Job, Tracking], Job]


def last_step(job: Job) -> int:
    """Return the step of the last evaluation that a training has printed."""
    return max((int(step) for step in re.findall(r"^step (\d+)/", job.logs, re.MULTILINE)), default=0)


def note(row: str, seconds: float) -> None:
    """Add a time to the file of recovery times."""
    if RECOVERY:
        file = Path(RECOVERY)
        rows = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(rows | {row: round(seconds, 1)}, indent=1) + "\n")


def check_training(job: Job, tracking: Tracking, folder: Path, undisturbed: dict[str, str]) -> None:
    """Wait for a training, and compare its weights and curves with those of an undisturbed one."""
    result = job.wait()
    assert weights(last_checkpoint(folder)) == undisturbed
    assert tracking.steps(result["run_id"], "generation_perplexity") == list(range(40, 241, 40))
    assert tracking.steps(result["run_id"], "distance") == list(range(10, 241, 10))


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, shared: Path) -> dict[str, str]:
    """The final weights of a training without a failure."""
    started = time.monotonic()
    cluster.submit(*TRAINING, "undisturbed").wait()
    note("an undisturbed training, from submission to the end", time.monotonic() - started)
    return weights(last_checkpoint(shared / "trainings" / "undisturbed"))


def lose_a_worker(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    os.kill(cluster.workers()[-1], signal.SIGKILL)
    return job


def lose_a_trial(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    os.kill(cluster.node_running(TRIAL).running(TRIAL)[-1], signal.SIGKILL)
    return job


def lose_a_node(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    cluster.lose(cluster.node_running(WORKER if job.words[0] == TRAINING[0] else TRIAL))
    cluster.add()
    return job


def lose_the_controller(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    (controller,) = cluster.head.running("TrainController")
    os.kill(controller, signal.SIGKILL)
    return job


def lose_the_driver(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    job.kill_driver()
    return job.submit_again()


def lose_mlflow(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    tracking.kill()
    time.sleep(20)
    tracking.start()
    return job


def stop_the_job(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    job.stop()
    return job.submit_again()


@pytest.mark.parametrize(
    "disturb", [lose_a_worker, lose_a_node, lose_the_controller, lose_the_driver, lose_mlflow, stop_the_job]
)
def test_a_training_recovers(
    disturb: Disturb, cluster: Cluster, tracking: Tracking, shared: Path, undisturbed: dict[str, str]
) -> None:
    name = disturb.__name__.replace("_", "-")
    job = cluster.submit(*TRAINING, name)
    job.wait_for("step 80/240")
    time.sleep(1)
    started, before = time.monotonic(), last_step(job)
    job = disturb(cluster, job, tracking)
    wait_until(f"a step after {before}", lambda: last_step(job) > before or job.status == "FAILED", 600)
    note(f"train.py: {disturb.__name__.replace('_', ' ')}", time.monotonic() - started)
    check_training(job, tracking, shared / "trainings" / name, undisturbed)


def test_a_leaving_node_lets_the_training_save_first(
    cluster: Cluster, tracking: Tracking, shared: Path, undisturbed: dict[str, str]
) -> None:
    job = cluster.submit(*TRAINING, "leaving")
    job.wait_for("step 80/240")
    node = cluster.node_running(WORKER)
    cluster.nodes.remove(node)
    started, before = time.monotonic(), last_step(job)
    folder = shared / "trainings" / "leaving"
    node.process.send_signal(signal.SIGTERM)
    cluster.add()
    between = wait_until(
        "a checkpoint between evaluations",
        lambda: [step for step in map(step_of, (m.parent for m in folder.glob("*/manifest.json"))) if step % 40],
        120,
    )
    note("train.py: SIGTERM to a node, until its checkpoint is in storage", time.monotonic() - started)
    assert all(step % 10 == 0 for step in between)
    assert node.process.wait(120) is not None
    wait_until(f"a step after {before}", lambda: last_step(job) > before, 600)
    check_training(job, tracking, folder, undisturbed)


@pytest.mark.parametrize("disturb", [lose_a_trial, lose_a_node, lose_the_driver, lose_mlflow, stop_the_job])
def test_a_sweep_recovers(disturb: Disturb, cluster: Cluster, tracking: Tracking) -> None:
    first = cluster.submit(*SWEEP, f"sweep-{disturb.__name__.replace('_', '-')}")
    wait_until("a trial has ended", lambda: "step 200/200" in first.logs, 600)
    started, before = time.monotonic(), first.logs.count("\ntrial ")
    job = disturb(cluster, first, tracking)
    before = before if job is first else 0
    wait_until("a trial reports", lambda: job.logs.count("\ntrial ") > before or job.status == "FAILED", 600)
    note(f"tune.py: {disturb.__name__.replace('_', ' ')}", time.monotonic() - started)
    trials = job.wait()["trials"]
    assert [trial["state"] for trial in trials] == ["done"] * 6
    assert len({trial["trial"] for trial in trials}) == len({trial["run_id"] for trial in trials}) == 6
    assert sum(each.logs.count("step 200/200") for each in {first, job}) <= 7
    for trial in trials:
        assert tracking.steps(trial["run_id"], "generation_perplexity") == [50, 100, 150, 200], trial["trial"]
        assert tracking.steps(trial["run_id"], "distance") == list(range(10, 201, 10))
