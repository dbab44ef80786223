"""Where Ray runs: the cluster that is there (a Ray job, or RAY_ADDRESS), or a private one on this machine.

What a run needs is compared with what there is before anything starts: Ray itself waits for ever for workers that can
never fit.
"""

import logging
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.environment import in_ray_job
from pipelines.experiment.errors import FailedError

if TYPE_CHECKING:
    from pipelines.experiment.settings import Experiment

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = "trial_driver"
"""Custom resource that a multi-worker trial's driver takes: a driver that took a CPU would starve its own workers."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning from every worker without a GPU
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # ray.train.report() waits for this poll: 2 s a call by default
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # how soon a training hears that a node is about to go; 5 by default
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # how much of a killed sweep is forgotten; 10 s or more by default
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # which every two seconds would set off
    # Threads that wait for one another by spinning take 30 times as long on a machine that does anything else besides.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_AIR_NEW_OUTPUT": "0",  # which shows its tables at any verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # curves are in MLflow
}


WORKERS = ("OMP_WAIT_POLICY", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
"""Those of them that the processes of a cluster which others have started must be given."""

TOO_SLOW = "timed out during startup"
"""What Ray says when its own processes have not answered for 30 seconds, a time that cannot be set."""


@dataclass(frozen=True)
class Room:
    """What a cluster has: CPUs, GPUs, and the largest node's share of each (a worker must fit on one node)."""

    cpus: float
    gpus: float
    node_cpus: float
    node_gpus: float
    attached: bool

    def count(self, cpus: float, gpus: float) -> int:
        """How many pieces of this size fit at once, one after another on whole nodes, at least as far as totals say."""
        if cpus > self.node_cpus or gpus > self.node_gpus:
            return 0
        by_cpu = int(self.cpus / cpus + 1e-6) if cpus else 10**6
        return min(by_cpu, int(self.gpus / gpus + 1e-6)) if gpus else by_cpu

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


def attached() -> bool:
    """Whether there is a cluster to join: inside `ray job submit`, or RAY_ADDRESS is set."""
    return bool(os.environ.get("RAY_ADDRESS"))  # which `ray job submit` sets, too


def this_machine() -> Room:
    """What a private cluster here has, without starting it."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    gpus = 0.0
    if Path("/dev/nvidiactl").exists():  # only then is asking torch worth the seconds of its import
        import torch

        gpus = float(torch.cuda.device_count())
    return Room(cpus, gpus, cpus, gpus, attached=False)


def _start(**options: Any) -> None:
    """ray.init, and once more where Ray gave up waiting for itself, as it does after 30 seconds on a busy machine.

    Raises FailedError where it gives up again.
    """
    import ray
    from ray._private.node import Node

    try:
        ray.init(**options)
    except Exception as error:
        if TOO_SLOW not in str(error):
            raise
        print("Ray did not start within its 30 seconds: is this machine busy? Once more.", file=sys.stderr, flush=True)
        # what it has started would live as long as this process: only the node that failed knows it, and is nobody's
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if isinstance(node := frame.f_locals.get("self"), Node):
                node.kill_all_processes(check_alive=False, allow_graceful=True)
                break
        try:
            ray.init(**options)
        except Exception as again:
            if TOO_SLOW not in str(again):
                raise
            raise FailedError(
                "Ray twice did not start within its 30 seconds: this machine is too busy; type the same again later"
            ) from again


@contextmanager
def running(room: Room | None = None, *, drivers: int = 0, dashboard: bool = False) -> Iterator[Room]:
    """Ray, up inside the `with` and gone after it. Joins a cluster if there is one, else starts a private one.

    room: size of the private cluster, by default the machine's. drivers: how many multi-worker trials may run at once
    in a private cluster. dashboard: whether trials over several workers can be stopped early, which needs it.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # a process for each training that looks out for nodes about to go
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", str(int(attached())))
    import ray

    folder: str | None = None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if attached():
            address = os.environ["RAY_ADDRESS"]  # without it Ray's helpers may ask another cluster on the machine
            given = {name: os.environ[name] for name in WORKERS} | ({"RAY_ADDRESS": address} if ":" in address else {})
            environment: dict[str, Any] = {"env_vars": given}
            if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # no job, which would bring its files along
                environment["working_dir"] = str(REPOSITORY)
            ray.init(runtime_env=environment, **options)
        else:
            room = room or this_machine()
            # Ray's sockets lie in here, and their paths may have 107 characters at most: not below a long TMPDIR.
            folder = tempfile.mkdtemp(prefix="arae-", dir="/tmp" if os.path.isdir("/tmp") else None)
            port = free_port() if dashboard else 9  # where nothing answers
            with _inherited(f"http://127.0.0.1:{port}"):
                _start(
                    address="local",
                    num_cpus=int(room.cpus),
                    num_gpus=int(room.gpus),
                    resources={DRIVER: drivers} if drivers else None,
                    include_dashboard=dashboard,
                    dashboard_host="127.0.0.1",
                    dashboard_port=port if dashboard else None,
                    object_store_memory=200_000_000,
                    _temp_dir=folder,
                    **options,
                )
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        yield _room(nodes, attached())
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _inherited(dashboard: str) -> Iterator[None]:
    """The environment that the processes of a private cluster inherit: how they find this repository's packages, and
    their own dashboard. Without the second, Ray Train's cleaner asks that of any cluster on the machine whether its
    controller is alive, hears of none, and takes the workers down.
    """
    path = os.environ.get("PYTHONPATH")
    wanted = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *([path] if path else [])])}
    wanted["RAY_API_SERVER_ADDRESS"] = dashboard
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def free_port() -> int:
    """One that is still free when its server comes to it, seconds later: not of those, from 32768 on, that the system
    gives to whoever asks for any, as all of Ray's processes do meanwhile."""
    while True:
        with socket.socket() as probe, suppress(OSError):  # in use
            probe.bind(("127.0.0.1", 20_000 + secrets.randbelow(10_000)))
            return int(probe.getsockname()[1])


def _room(nodes: list[dict[str, Any]], joined: bool) -> Room:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = ([float(r.get(name, 0)) for r in alive] for name in ("CPU", "GPU"))
    return Room(sum(cpus), sum(gpus), max(cpus, default=0), max(gpus, default=0), joined)


def check_fits(room: Room, workers: int, cpus: float = 1, gpus: float = 0, name: str = "workers") -> int:
    """How many groups of `workers` workers (of so many CPUs and GPUs each) fit at once; at least one.

    Raises ValueError, saying what fits, where not even one does.
    """
    fit = room.count(cpus, gpus)
    if fit < workers:
        each = f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
        raise ValueError(
            f"{name} must be <= {fit} here, got {workers}: a worker takes {each} and "
            f"{'the cluster' if room.attached else 'this machine'} has {room}"
        )
    return fit // workers


def check_precision(room: Room, experiment: "Experiment", gpus: float) -> None:
    """Raise ValueError where workers without a GPU on this machine are to train in a precision that its processor
    cannot run. The nodes of a cluster that others started say so themselves."""
    if experiment.precision == "bfloat16" and not gpus and not room.attached:
        from arae_core.runtime.precision import check_precision  # which imports torch: only where it matters

        check_precision(experiment, "cpu")


def use_gpu(device: str, room: Room) -> bool:
    """Whether workers get GPUs. Raises ValueError where device is cuda and there is none."""
    if device == "cuda" and not room.gpus:
        raise ValueError(f"device must be cpu or auto here, got 'cuda': no GPU among {room}")
    return device != "cpu" and room.gpus > 0


def writable(folder: Path) -> Path:
    """The folder, made where it was missing, after a file was written to it and removed.

    Raises ValueError where that cannot be done: told before Ray starts, not by its workers.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(folder)):
        raise ValueError(f"--storage must be a folder, one that all nodes see, not an address, got {str(folder)!r}")
    if in_ray_job() and not folder.expanduser().is_absolute():
        raise ValueError(
            f"--storage must be an absolute path in a Ray job, got {str(folder)!r}: Ray deletes the folder that a job "
            "runs in ($ARAE_STORAGE)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder.resolve()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"--storage {folder} cannot be written to ({reason}); name another folder") from None
