"""A job on two nodes that loses a worker: the short version of `make test-cluster`, for `make test-slow`."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL
from tests.cluster.machines import Cluster


@pytest.fixture(scope="module")
def two_nodes(short_folder: Path) -> Iterator[Cluster]:
    """A head and a node with one CPU each. MLflow is an SQLite file, because both are on one machine."""
    (short_folder / "ray").mkdir()
    (short_folder / "storage").mkdir()
    storage = {"ARAE_STORAGE": f"{short_folder}/storage"}
    cluster = Cluster(short_folder / "ray", storage | {"MLFLOW_TRACKING_URI": f"sqlite:///{short_folder}/mlflow.db"})
    cluster.add(cpus=1)
    yield cluster
    cluster.end()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_job_loses_a_worker(two_nodes: Cluster, short_folder: Path) -> None:
    from pipelines.tracking.store import connect

    words = ["--iterations", "120", "--evaluate-every", "40", "--log-every", "20", "--workers", "2"]
    job = two_nodes.submit("pipelines/train.py", *SMALL, *words, "--run-name", "short")
    job.wait_for("step 40/120")
    os.kill(two_nodes.workers()[-1], signal.SIGKILL)
    result = job.wait()
    assert result["model_version"] == 1
    client = connect(f"sqlite:///{short_folder}/mlflow.db")
    for curve, steps in (("generation_perplexity", [40, 80, 120]), ("distance", [20, 40, 60, 80, 100, 120])):
        assert [point.step for point in client.get_metric_history(result["run_id"], curve)] == steps
