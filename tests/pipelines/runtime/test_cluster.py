import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arae_core.settings.tree import with_settings
from pipelines.experiment.errors import FailedError
from pipelines.experiment.presets import preset
from pipelines.runtime import cluster, ray_internals
from pipelines.runtime.cluster import Room, attached, check_fits, check_precision, this_machine, use_gpu, writable
from pipelines.runtime.ray_internals import STARTUP_TIMEOUT, init_with_retry

ROOT = Path(__file__).resolve().parents[3]
HERE = Room(cpus=2, gpus=0, node_cpus=2, node_gpus=0, attached=False)
JOINED = Room(cpus=16, gpus=1, node_cpus=16, node_gpus=1, attached=True)
SMALL_NODES = Room(cpus=8, gpus=0, node_cpus=2, node_gpus=0, attached=True)
SLOW_START = """
import time, types
import ray
from ray._private import node, services
from pipelines.runtime.cluster import Room, running

known, asked, jumps = services.get_node, [], []

def get_node(*arguments):
    asked.append(arguments)
    if len(asked) <= TIMES:
        raise RuntimeError("no such node yet")
    return known(*arguments)

services.get_node = get_node
def monotonic():
    jumps.append(20 if len(asked) <= TIMES else 0)
    return time.monotonic() + sum(jumps)

node.time = types.SimpleNamespace(**vars(time) | {"monotonic": monotonic})
with running(Room(1, 0, 1, 0, attached=False)) as room:
    print(room, ray.get(ray.remote(lambda: 7).remote()), len(ray.nodes()))
"""
"""A Ray whose first node does not answer TIMES times, and whose clock jumps meanwhile."""


@pytest.mark.parametrize(
    ("room", "workers", "options", "groups"),
    [(HERE, 1, {}, 2), (HERE, 2, {}, 1), (JOINED, 1, {"gpus": 0.25}, 4), (JOINED, 3, {"cpus": 2}, 2)],
)
def test_groups_of_workers_that_fit(room: Room, workers: int, options: dict[str, float], groups: int) -> None:
    assert check_fits(room, workers, **options) == groups  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("room", "workers", "options", "message"),
    [
        (HERE, 3, {}, r"workers must be <= 2 here, got 3: a worker takes 1 CPU and this machine has 2 CPUs"),
        (JOINED, 2, {"gpus": 1}, r"<= 1 here, got 2: a worker takes 1 CPU and 1 GPU and the cluster has 16 CPUs and 1"),
        (SMALL_NODES, 1, {"cpus": 4}, "workers must be <= 0"),  # a worker must fit on one node
    ],
)
def test_too_many_workers_are_refused(room: Room, workers: int, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fits(room, workers, **options)  # type: ignore[arg-type]


def test_devices() -> None:
    assert use_gpu("auto", JOINED) and use_gpu("cuda", JOINED) and not use_gpu("cpu", JOINED)
    assert not use_gpu("auto", HERE)
    with pytest.raises(ValueError, match="device must be cpu or auto here"):
        use_gpu("cuda", HERE)


def test_this_machine_and_a_cluster_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not attached()
    assert 1 <= this_machine().cpus <= (os.cpu_count() or 1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert attached()


def test_what_workers_of_a_joined_cluster_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job brings its files itself; else a checkout is uploaded whole, and of an installation the packages."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    for name in ray_internals.ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    environment = cluster._runtime_environment()
    assert environment["working_dir"] == str(ROOT)
    assert environment["env_vars"] == {
        **dict.fromkeys(ray_internals.WORKER_ENVIRONMENT, "1"),
        "RAY_ADDRESS": "10.0.0.1:6379",
    }
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    assert cluster._runtime_environment()["py_modules"] == [str(tmp_path / name) for name in cluster.PACKAGES]
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert cluster._runtime_environment().keys() == {"env_vars"}


def test_storage_is_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert writable(Path("new")) == (tmp_path / "new").resolve()
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--storage .* cannot be written to"):
        writable(tmp_path / "file" / "below")
    with pytest.raises(ValueError, match=r"--storage must be a folder .* got 's3:/bucket/x'"):
        writable(Path("s3://bucket/x"))
    monkeypatch.setattr(cluster, "in_ray_job", lambda: True)
    with pytest.raises(ValueError, match=r"--storage must be an absolute path in a Ray job, got 'runs'"):
        writable(Path("runs"))
    assert writable(tmp_path / "runs") == tmp_path / "runs"


def test_a_precision_that_this_machine_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arae_core.runtime.precision.lstm_runs_in_bfloat16", lambda device_type: device_type == "cuda")
    bfloat16 = with_settings(preset("grammar"), {"precision": "bfloat16"})
    with pytest.raises(ValueError, match="precision must be auto or float32"):
        check_precision(HERE, bfloat16, gpus=0)
    check_precision(HERE, bfloat16, gpus=1)
    check_precision(JOINED, bfloat16, gpus=0)  # its nodes may have other processors
    check_precision(HERE, preset("grammar"), gpus=0)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "starts"), [(2, True), (9, False)])
def test_a_ray_that_is_slow_to_start_is_started_once_more(times: int, starts: bool) -> None:
    script = SLOW_START.replace("TIMES", str(times))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr.count("Trying once more") == 1
    if starts:
        assert (done.returncode, done.stdout) == (0, "1 CPUs 7 1\n")
    else:
        assert done.returncode == 1 and "FailedError: Ray failed twice to start" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("messages", "error", "message"),
    [
        ([], None, ""),
        ([STARTUP_TIMEOUT], None, ""),
        ([STARTUP_TIMEOUT, STARTUP_TIMEOUT], FailedError, "too busy"),
        (["no such address"], RuntimeError, "no such address"),
        ([STARTUP_TIMEOUT, "no such address"], RuntimeError, "no such address"),
    ],
)
def test_ray_is_started_once_more_only_after_a_timeout(
    messages: list[str], error: type[Exception] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of the first node are killed before."""
    import ray
    from ray._private.node import Node

    events = list[str]()

    class Slow(Node):
        def __init__(self) -> None:
            pass

        def start(self) -> None:
            events.append("start")
            if events.count("start") <= len(messages):
                raise RuntimeError(f"the node {messages[events.count('start') - 1]}")

        def kill_all_processes(self, *_: object, **__: object) -> None:
            events.append("kill")

    monkeypatch.setattr(ray, "init", lambda **_: Slow().start())
    if error is None:
        init_with_retry()
    else:
        with pytest.raises(error, match=re.escape(message)) as raised:
            init_with_retry()
        assert type(raised.value) is error
    assert events == (["start", "kill", "start"] if messages[:1] == [STARTUP_TIMEOUT] else ["start"])
