"""Jobs submitted over HTTP to a cluster of a head and two nodes, with MLflow on PostgreSQL."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL
from tests.cluster.machines import ROOT, Cluster, Tracking

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_a_training_over_both_nodes(cluster: Cluster, tracking: Tracking, shared: Path) -> None:
    words = ["--iterations", "300", "--evaluate-every", "100", "--log-every", "10", "--workers", "3"]
    job = cluster.submit("pipelines/train.py", *SMALL, *words, "--run-name", "over-nodes")
    result = job.wait()
    assert result["checkpoint"].startswith(str(shared))
    assert [step for step, _ in tracking.history(result["run_id"], "generation_perplexity")] == [100, 200, 300]
    assert [step for step, _ in tracking.history(result["run_id"], "distance")] == list(range(10, 301, 10))
    words = ["pipelines/generate.py", "--model", "models:/arae-grammar@champion", "--count", "3"]
    run = subprocess.run(
        [sys.executable, *words, "--tracking-uri", tracking.uri], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 3
