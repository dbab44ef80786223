"""What fits is known before anything starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arae_core.settings.tree import with_settings
from pipelines.experiment.errors import FailedError
from pipelines.experiment.presets import preset
from pipelines.runtime import cluster
from pipelines.runtime.cluster import (
    TOO_SLOW,
    Room,
    _start,
    attached,
    check_fits,
    check_precision,
    this_machine,
    use_gpu,
    writable,
)

ROOT = Path(__file__).resolve().parents[3]
HERE = Room(cpus=2, gpus=0, node_cpus=2, node_gpus=0, attached=False)
SLOW_START = """
import time, types
import ray
from ray._private import node, services
from pipelines.runtime.cluster import Room, running

known, asked, clock = services.get_node, [], iter(range(0, 10**6, 20))

def get_node(*arguments):
    asked.append(arguments)
    if len(asked) <= TIMES:
        raise RuntimeError("no such node yet")
    return known(*arguments)

services.get_node = get_node
node.time = types.SimpleNamespace(**vars(time) | {"monotonic": lambda: next(clock)})
with running(Room(1, 0, 1, 0, attached=False)) as room:
    print(room, ray.get(ray.remote(lambda: 7).remote()), len(ray.nodes()))
"""
"""Ray, which finds that its first node does not answer, TIMES times, and that thirty seconds have passed."""
LENT = Room(cpus=16, gpus=1, node_cpus=16, node_gpus=1, attached=True)


def test_how_many_groups_fit_at_once() -> None:
    assert check_fits(HERE, workers=1) == 2
    assert check_fits(HERE, workers=2) == 1
    assert check_fits(LENT, workers=1, gpus=0.25) == 4
    assert check_fits(LENT, workers=3, cpus=2) == 2


@pytest.mark.parametrize(
    ("room", "workers", "gpus", "message"),
    [
        (HERE, 3, 0, r"workers must be <= 2 here, got 3: a worker takes 1 CPU and this machine has 2 CPUs"),
        (LENT, 2, 1, r"<= 1 here, got 2: a worker takes 1 CPU and 1 GPU and the cluster has 16 CPUs and 1 GPU"),
    ],
)
def test_too_many_workers_are_told_what_fits(room: Room, workers: int, gpus: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fits(room, workers, gpus=gpus)


def test_a_worker_must_fit_on_one_node() -> None:
    small_nodes = Room(cpus=8, gpus=0, node_cpus=2, node_gpus=0, attached=True)
    with pytest.raises(ValueError, match="workers must be <= 0"):
        check_fits(small_nodes, workers=1, cpus=4)


def test_devices() -> None:
    assert use_gpu("auto", LENT) and use_gpu("cuda", LENT) and not use_gpu("cpu", LENT)
    assert not use_gpu("auto", HERE)
    with pytest.raises(ValueError, match="device must be cpu or auto here"):
        use_gpu("cuda", HERE)


def test_this_machine_and_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not attached()
    assert 1 <= this_machine().cpus <= (os.cpu_count() or 1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert attached()


def test_storage_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    assert writable(tmp_path / "new") == (tmp_path / "new").resolve()
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--storage .* cannot be written to"):
        writable(tmp_path / "file" / "below")


def test_storage_is_a_folder_and_in_a_job_an_absolute_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"--storage must be a folder, one that all nodes see, .* got 's3:/bucket/x'"):
        cluster.writable(Path("s3://bucket/x"))
    assert cluster.writable(Path("runs")) == tmp_path / "runs"
    monkeypatch.setattr(cluster, "in_ray_job", lambda: True)
    with pytest.raises(ValueError, match=r"--storage must be an absolute path in a Ray job, got 'runs'"):
        cluster.writable(Path("runs"))
    assert cluster.writable(tmp_path / "runs") == tmp_path / "runs"


def test_a_precision_that_this_machine_cannot_run_is_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arae_core.runtime.precision.lstm_runs_in_bfloat16", lambda device_type: device_type == "cuda")
    asked = with_settings(preset("grammar"), {"precision": "bfloat16"})
    here = Room(2, 1, 2, 1, attached=False)
    with pytest.raises(ValueError, match="precision must be auto or float32"):
        check_precision(here, asked, gpus=0)
    check_precision(here, asked, gpus=1)
    check_precision(Room(2, 0, 2, 0, attached=True), asked, gpus=0)  # its nodes may have other processors
    check_precision(here, preset("grammar"), gpus=0)


@pytest.mark.parametrize(("times", "starts"), [(2, True), pytest.param(9, False, marks=pytest.mark.slow)])
def test_ray_that_is_slow_to_start_is_started_once_more(times: int, starts: bool) -> None:
    script = SLOW_START.replace("TIMES", str(times))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr.count("Ray did not start within its 30 seconds: is this machine busy? Once more.") == 1
    if starts:
        assert (done.returncode, done.stdout) == (0, "1 CPUs 7 1\n")
    else:
        assert done.returncode == 1 and "FailedError: Ray twice did not start" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("says", "error", "message"),
    [
        ([], None, ""),
        ([TOO_SLOW], None, ""),
        ([TOO_SLOW, TOO_SLOW], FailedError, "Ray twice did not start within its 30 seconds: this machine is too busy"),
        (["no such address"], RuntimeError, "no such address"),
        ([TOO_SLOW, "no such address"], RuntimeError, "no such address"),
    ],
)
def test_ray_is_started_once_more_where_it_was_too_slow_alone(
    says: list[str], error: type[Exception] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the first node has started is killed before."""
    import ray
    from ray._private.node import Node

    did = list[str]()

    class Slow(Node):
        def __init__(self) -> None:
            pass

        def start(self) -> None:
            did.append("start")
            if len(did[::2]) <= len(says):
                raise RuntimeError(f"the node {says[len(did[::2]) - 1]}")

        def kill_all_processes(self, *_: object, **__: object) -> None:
            did.append("kill")

    monkeypatch.setattr(ray, "init", lambda **_: Slow().start())
    if error is None:
        _start()
    else:
        with pytest.raises(error, match=re.escape(message)) as raised:
            _start()
        assert type(raised.value) is error
    assert did == (["start", "kill", "start"] if says[:1] == [TOO_SLOW] else ["start"])
