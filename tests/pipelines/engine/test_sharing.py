"""What another node does not see, or cannot reach, is told before anything starts there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.test_train import ROOT

PROGRAM = """
import os, socket, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from pipelines.engine.sharing import check_shared

storage = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
try:
    cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    ray.init(log_to_driver=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        check_shared(storage, uri)
    try:
        check_shared(storage, uri)
    except ValueError as error:
        print(error)
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_a_server_that_a_node_cannot_reach(tmp_path: Path) -> None:
    """A trial there would find out after two minutes, a training at its end."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**environment, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = "--tracking-uri http://127.0.0.1:.*: the node .* cannot reach it .*; name the server by an address that all"
    assert re.match(told, line), line
