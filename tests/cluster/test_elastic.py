"""A training that uses the workers it can get, and the checks of a cluster before a job starts."""

import os
from pathlib import Path

import pytest

from arae_core.training.checkpoint import read_manifest
from tests.cluster.conftest import SMALL
from tests.cluster.machines import Cluster, Tracking, wait_until
from tests.pipelines.small import last_checkpoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
TRAIN = ["pipelines/train.py", *SMALL, "--batch-size", "16", "--iterations", "900"]
TRAIN += ["--evaluate-every", "50", "--log-every", "10"]


def test_workers_come_and_go(cluster: Cluster, tracking: Tracking, shared: Path) -> None:
    cluster.lose(cluster.nodes[-1])
    job = cluster.submit(*TRAIN, "--workers", "5", "--min-workers", "2", "--run-name", "elastic")
    job.wait_for("step 50/900")
    assert len(cluster.workers()) == 3  # one CPU of the head, two of the node
    node = cluster.add()
    wait_until("the new node is used", lambda: len(cluster.workers()) == 5, 600)
    assert job.status == "RUNNING"
    cluster.lose(node)
    wait_until("the training continues with fewer workers", lambda: len(cluster.workers()) == 3, 600)
    cluster.add()
    result = job.wait()
    assert tracking.steps(result["run_id"], "generation_perplexity") == list(range(50, 901, 50))
    assert tracking.steps(result["run_id"], "distance") == list(range(10, 901, 10))
    assert read_manifest(last_checkpoint(shared / "trainings" / "elastic"))["step"] == 900


def test_more_workers_than_the_cluster_has_are_refused(cluster: Cluster) -> None:
    job = cluster.submit(*TRAIN, "--workers", "9", "--run-name", "too-many")
    wait_until("the job has ended", lambda: job.status == "FAILED")
    assert "error: workers must be <= 5" in job.logs


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a node its own file system")
@pytest.mark.parametrize("flag", ["--storage", "--tracking-uri"])
def test_a_storage_that_a_node_cannot_see_is_refused(flag: str, cluster: Cluster) -> None:
    storage = cluster.folder / flag.strip("-")
    storage.mkdir()
    value = str(storage) if flag == "--storage" else f"sqlite:///{storage}/mlflow.db"
    node = cluster.add(hidden=storage)
    try:
        job = cluster.submit(*TRAIN, "--workers", "3", "--run-name", "unseen", flag, value)
        wait_until("the job has ended", lambda: job.status == "FAILED")
        assert f"error: {flag} {value}" in job.logs
    finally:
        cluster.lose(node)
