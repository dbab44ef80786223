"""Jobs on a cluster of a head and two nodes, with MLflow on PostgreSQL."""

import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL
from tests.cluster.machines import ROOT, Cluster, Tracking

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]


def test_a_training_over_both_nodes(cluster: Cluster, tracking: Tracking, shared: Path) -> None:
    words = ["--iterations", "300", "--evaluate-every", "100", "--log-every", "10", "--workers", "3"]
    job = cluster.submit("pipelines/train.py", *SMALL, *words, "--run-name", "over-nodes")
    result = job.wait()
    assert result["checkpoint"].startswith(str(shared))
    assert tracking.steps(result["run_id"], "generation_perplexity") == [100, 200, 300]
    assert tracking.steps(result["run_id"], "distance") == list(range(10, 301, 10))
    words = ["pipelines/generate.py", "--model", "models:/arae-grammar@champion", "--count", "3"]
    run = subprocess.run(
        [sys.executable, *words, "--tracking-uri", tracking.uri], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 3


def test_the_dashboard_requires_the_token(cluster: Cluster) -> None:
    for path in ("/api/jobs/", "/api/v0/nodes", "/nodes?view=summary"):
        with pytest.raises(urllib.error.HTTPError, match=r"401|403"):
            urllib.request.urlopen(f"http://127.0.0.1:{cluster.dashboard}{path}", timeout=10)
    assert cluster.ask("/api/jobs/") is not None


@pytest.mark.timeout(1500)
def test_nodes_without_the_packages_install_them(short_folder: Path, shared: Path, tracking: Tracking) -> None:
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lock if line.startswith("ray==")]
    with tempfile.TemporaryDirectory(prefix="bare-", dir=short_folder) as folder:
        bare = Path(folder, "venv")
        subprocess.run([sys.executable, "-m", "venv", str(bare)], check=True)
        install = [str(bare / "bin" / "python"), "-m", "pip", "install", "--quiet", "--constraint", "requirements.lock"]
        subprocess.run([*install, *(pin.replace("ray", "ray[default]", 1) for pin in pins)], check=True, cwd=ROOT)
        environment = {"ARAE_STORAGE": str(shared), "MLFLOW_TRACKING_URI": tracking.uri}
        Path(folder, "ray").mkdir()
        cluster = Cluster(Path(folder, "ray"), environment, bare / "bin")
        try:
            words = ["--iterations", "40", "--evaluate-every", "40", "--run-name", "bare"]
            job = cluster.submit("pipelines/train.py", *SMALL, *words, runtime_env="cluster/runtime_env.yaml")
            assert job.wait(1200)["metrics"]["step"] == 40
        finally:
            cluster.end()
