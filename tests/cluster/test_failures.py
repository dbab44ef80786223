"""What is killed in the middle, and what it costs: trainings end with the weights of one left alone, bit for bit,
sweeps with every trial once, and curves without gaps or doubles."""

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

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LENGTH = ["--batch-size", "16", "--iterations", "240", "--evaluate-every", "40", "--log-every", "10", "--workers", "3"]
STEPS = [40, 80, 120, 160, 200, 240]
RECOVERY = os.environ.get("ARAE_TEST_RECOVERY", "")
"""File that takes the times, a JSON object."""


def submitted(cluster: Cluster, name: str) -> Job:
    return cluster.submit("pipelines/train.py", *SMALL, *LENGTH, "--run-name", name)


def last_step(job: Job) -> int:
    """The last evaluation that a training has printed."""
    return max((int(step) for step in re.findall(r"^step (\d+)/", job.logs, re.MULTILINE)), default=0)


def note(row: str, seconds: float) -> None:
    """Keep a time to recover."""
    if RECOVERY:
        file = Path(RECOVERY)
        rows = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(rows | {row: round(seconds, 1)}, indent=1) + "\n")


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, shared: Path) -> dict[str, str]:
    """The weights that a training ends with that nothing happens to."""
    started = time.monotonic()
    submitted(cluster, "undisturbed").wait()
    note("a training left alone, from submission to the end", time.monotonic() - started)
    return weights(last_checkpoint(shared / "trainings" / "undisturbed"))


def lose_a_worker(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    os.kill(cluster.workers()[-1], signal.SIGKILL)
    return job


def lose_a_node(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    cluster.lose(next(node for node in cluster.nodes if any("RayTrainWorker" in line for _, line in node.below())))
    cluster.add()
    return job


def lose_the_controller(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    (controller,) = [pid for pid, line in cluster.head.below() if "TrainController" in line]
    os.kill(controller, signal.SIGKILL)
    return job


def lose_the_driver(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    os.kill(job.driver, signal.SIGKILL)
    wait_until("the job has failed", lambda: job.status == "FAILED")
    return submitted(cluster, job.run)


def lose_mlflow(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    tracking.kill()
    time.sleep(20)
    tracking.start()
    return job


def stop_the_job(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    job.stop()
    wait_until("the job has stopped", lambda: job.status == "STOPPED")
    return submitted(cluster, job.run)


@pytest.mark.parametrize(
    "disturb", [lose_a_worker, lose_a_node, lose_the_controller, lose_the_driver, lose_mlflow, stop_the_job]
)
def test_a_training_goes_on(
    disturb: Callable[[Cluster, Job, Tracking], Job],
    cluster: Cluster,
    tracking: Tracking,
    shared: Path,
    undisturbed: dict[str, str],
) -> None:
    name = disturb.__name__.replace("_", "-")
    job = submitted(cluster, name)
    job.wait_for("step 80/240")
    time.sleep(1)
    started, before = time.monotonic(), last_step(job)
    job = disturb(cluster, job, tracking)
    wait_until(f"a step after {before}", lambda: last_step(job) > before or job.status == "FAILED", 240)
    note(f"train.py: {disturb.__name__.replace('_', ' ')}", time.monotonic() - started)
    result = job.wait()
    assert weights(last_checkpoint(shared / "trainings" / name)) == undisturbed
    assert [step for step, _ in tracking.history(result["run_id"], "generation_perplexity")] == STEPS
    assert [step for step, _ in tracking.history(result["run_id"], "distance")] == list(range(10, 241, 10))


def test_a_node_that_goes_lets_the_training_save_first(
    cluster: Cluster, tracking: Tracking, shared: Path, undisturbed: dict[str, str]
) -> None:
    job = submitted(cluster, "leaving")
    job.wait_for("step 80/240")
    node = next(node for node in cluster.nodes if any("RayTrainWorker" in line for _, line in node.below()))
    cluster.nodes.remove(node)
    started, before = time.monotonic(), last_step(job)
    folder = shared / "trainings" / "leaving"
    node.process.send_signal(signal.SIGTERM)
    cluster.add()
    between = wait_until(
        "a checkpoint between evaluations",
        lambda: [step for step in map(step_of, (m.parent for m in folder.glob("*/manifest.json"))) if step % 40],
        60,
    )
    note("train.py: SIGTERM to a node, until the checkpoint is there", time.monotonic() - started)
    assert node.process.wait(120) is not None
    wait_until(f"a step after {before}", lambda: last_step(job) > before, 240)
    result = job.wait()
    assert all(step % 10 == 0 for step in between)
    assert weights(last_checkpoint(folder)) == undisturbed
    assert [step for step, _ in tracking.history(result["run_id"], "generation_perplexity")] == STEPS
    assert [step for step, _ in tracking.history(result["run_id"], "distance")] == list(range(10, 241, 10))


SWEEP = [
    *("--trials", "6", "--scheduler", "none", "--batch-size", "16", "--iterations", "200"),
    *("--evaluate-every", "50", "--log-every", "10"),
]


def swept(cluster: Cluster, name: str) -> Job:
    return cluster.submit("pipelines/tune.py", *SMALL, *SWEEP, "--run-name", name)


def lose_a_trial(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    trials = [pid for node in cluster.nodes for pid, line in node.below() if "ImplicitFunc" in line]
    os.kill(trials[-1], signal.SIGKILL)
    return job


def lose_the_node_of_a_trial(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    cluster.lose(next(node for node in cluster.nodes if any("ImplicitFunc" in line for _, line in node.below())))
    cluster.add()
    return job


def lose_the_driver_of_the_sweep(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    os.kill(job.driver, signal.SIGKILL)
    wait_until("the job has failed", lambda: job.status == "FAILED")
    return swept(cluster, job.run)


def stop_the_sweep(cluster: Cluster, job: Job, tracking: Tracking) -> Job:
    job.stop()
    wait_until("the job has stopped", lambda: job.status == "STOPPED")
    return swept(cluster, job.run)


@pytest.mark.parametrize(
    "disturb",
    [lose_a_trial, lose_the_node_of_a_trial, lose_the_driver_of_the_sweep, lose_mlflow, stop_the_sweep],
)
def test_a_sweep_goes_on(
    disturb: Callable[[Cluster, Job, Tracking], Job], cluster: Cluster, tracking: Tracking
) -> None:
    name = f"sweep-{disturb.__name__.replace('_', '-')}"
    job = swept(cluster, name)
    wait_until("a trial is done and another under way", lambda: "step 200/200" in job.logs, 240)
    started, before = time.monotonic(), job.logs.count("\ntrial ")
    again = disturb(cluster, job, tracking)
    before = before if again is job else 0
    wait_until("the sweep goes on", lambda: again.logs.count("\ntrial ") > before or again.status == "FAILED", 240)
    note(f"tune.py: {disturb.__name__.replace('_', ' ')}", time.monotonic() - started)
    trials = again.wait(400)["trials"]
    assert [trial["state"] for trial in trials] == ["done"] * 6
    assert len({trial["trial"] for trial in trials}) == len({trial["run_id"] for trial in trials}) == 6
    assert again.logs.count("step 200/200") + (job.logs.count("step 200/200") if again is not job else 0) <= 7
    for trial in trials:
        curve = [step for step, _ in tracking.history(trial["run_id"], "generation_perplexity")]
        assert curve == [50, 100, 150, 200], trial["trial"]
        assert [step for step, _ in tracking.history(trial["run_id"], "distance")] == list(range(10, 201, 10))
