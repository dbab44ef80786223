"""A training that starts with what is there and uses what comes; a folder that not every node sees."""

import os
from pathlib import Path

import pytest

from arae_core.training.checkpoint import read_manifest
from tests.cluster.conftest import SMALL
from tests.cluster.machines import Cluster, Tracking, wait_until
from tests.pipelines.small import last_checkpoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LENGTH = ["--batch-size", "16", "--iterations", "900", "--evaluate-every", "50", "--log-every", "10"]


def test_workers_come_and_go(cluster: Cluster, tracking: Tracking, shared: Path) -> None:
    cluster.lose(cluster.nodes[-1])
    words = [*SMALL, *LENGTH, "--workers", "5", "--min-workers", "2", "--run-name", "elastic"]
    job = cluster.submit("pipelines/train.py", *words)
    job.wait_for("step 50/900")
    assert len(cluster.workers()) == 3  # the head's CPU and the node's two
    node = cluster.add()
    wait_until("the new node is used", lambda: len(cluster.workers()) == 5, 240)
    assert job.status == "RUNNING"
    cluster.lose(node)
    wait_until("the training goes on with fewer", lambda: len(cluster.workers()) == 3, 240)
    cluster.add()
    result = job.wait(400)
    steps = list(range(50, 901, 50))
    assert [step for step, _ in tracking.history(result["run_id"], "generation_perplexity")] == steps
    assert [step for step, _ in tracking.history(result["run_id"], "distance")] == list(range(10, 901, 10))
    assert read_manifest(last_checkpoint(shared / "trainings" / "elastic"))["step"] == 900


def test_what_a_cluster_lacks_is_told_at_once(cluster: Cluster) -> None:
    words = [*SMALL, *LENGTH, "--workers", "9", "--run-name", "too-many"]
    job = cluster.submit("pipelines/train.py", *words)
    wait_until("the job has ended", lambda: job.status == "FAILED")
    assert "error: workers must be <= 5 here, got 9: a worker takes 1 CPU and the cluster has 5 CPUs" in job.logs


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a node a file system of its own")
def test_a_storage_that_a_node_does_not_see_is_refused(cluster: Cluster) -> None:
    storage = cluster.folder / "some"
    storage.mkdir()
    node = cluster.add(hidden=storage)
    database = f"sqlite:///{storage}/mlflow.db"
    try:
        for words, message in (
            (["--storage", str(storage)], f"error: --storage {storage} is not the same folder on the node"),
            (["--tracking-uri", database], f"error: --tracking-uri {database}: the node"),
        ):
            job = cluster.submit(
                "pipelines/train.py", *SMALL, *LENGTH, "--workers", "3", "--run-name", "unseen", *words
            )
            wait_until("the job has ended", lambda job=job: job.status == "FAILED")  # type: ignore[misc]
            assert message in job.logs
    finally:
        cluster.lose(node)
