"""drain.sh finds the node that it is told, where several share a machine."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.static.manifests import CLUSTER


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[int]]:
    """Two processes that have each started a raylet, as `ray start --block` does."""
    raylet = tmp_path / "raylet"  # a script's name is its process's
    raylet.write_text("#!/bin/bash\necho started\nwhile :; do read -t 1 -u 9 9<> <(:); done\n")
    raylet.chmod(0o755)
    started = []
    for name in ("A", "B"):
        line = f'"{raylet}" --gcs-address=gcs --node_id=NODE_{name} & wait'
        started.append(subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, start_new_session=True))
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"  # by the raylet itself: before, it has another name
    yield [process.pid for process in started]
    for process in started:
        os.killpg(process.pid, 9)
        process.communicate()


def test_the_node_of_the_process_named_is_drained(nodes: list[int], tmp_path: Path) -> None:
    (tmp_path / "ray").write_text('#!/bin/bash\necho "$@"\n')
    (tmp_path / "ray").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ARAE_DRAIN_SECONDS": "1"}
    for process, name in zip(nodes, "AB", strict=True):
        words = ["bash", str(CLUSTER / "drain.sh"), str(process)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0 and f"--node-id NODE_{name} " in done.stdout, done


def test_no_node_is_told(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as alone:  # below this process may be the tests' own Ray
        words = ["bash", str(CLUSTER / "drain.sh"), str(alone.pid)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        alone.kill()
    assert (done.returncode, done.stderr) == (1, "drain: no Ray node runs here\n")
