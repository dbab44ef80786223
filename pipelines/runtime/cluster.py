"""The Ray cluster: the one to join (a Ray job, or RAY_ADDRESS), or a private one on this machine.

What a run needs is compared with what the cluster has before anything starts: Ray itself waits forever for workers that
can never fit.
"""

import logging
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.environment import in_ray_job
from pipelines.runtime import ray_internals

if TYPE_CHECKING:
    from pipelines.experiment.settings import Experiment

ROOT = Path(__file__).resolve().parents[2]
"""Folder of this project's packages: a checkout, or site-packages."""
PACKAGES = ("arae_core", "pipelines", "tune_spaces")
DRIVER = "trial_driver"
"""Custom resource of a multi-worker trial's driver: a driver that reserved a CPU would starve its own workers."""


@dataclass(frozen=True)
class Room:
    """CPUs and GPUs of a cluster, and of its largest nodes: a worker must fit on one node."""

    cpus: float
    gpus: float
    node_cpus: float
    node_gpus: float
    attached: bool

    def count(self, cpus: float, gpus: float) -> int:
        """Return how many workers of this size fit at once, as far as totals and the largest node tell."""
        if cpus > self.node_cpus or gpus > self.node_gpus:
            return 0
        by_cpu = int(self.cpus / cpus + 1e-6) if cpus else 10**6
        return min(by_cpu, int(self.gpus / gpus + 1e-6)) if gpus else by_cpu

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


def attached() -> bool:
    """True if there is a cluster to join: inside `ray job submit`, or where RAY_ADDRESS is set."""
    return bool(os.environ.get("RAY_ADDRESS"))  # `ray job submit` sets it too


def this_machine() -> Room:
    """Return what a private cluster on this machine has, without starting it."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    gpus = 0.0
    if Path("/dev/nvidiactl").exists():  # importing torch takes seconds
        import torch

        gpus = float(torch.cuda.device_count())
    return Room(cpus, gpus, cpus, gpus, attached=False)


@contextmanager
def running(room: Room | None = None, *, drivers: int = 0, dashboard: bool = False) -> Iterator[Room]:
    """Join the cluster if there is one, else start a private one; shut Ray down after the `with` block.

    room: size of a private cluster, by default the whole machine. drivers: multi-worker trials that a private cluster
    may run at once. dashboard: start the dashboard, without which Ray cannot stop multi-worker trials early.
    """
    ray_internals.set_environment(attached())
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as stack:
        if attached():
            stack.callback(ray.shutdown)
            ray.init(runtime_env=_runtime_environment(), **options)
        else:
            room = room or this_machine()
            folder = stack.enter_context(ray_internals.session_folder())
            stack.callback(ray.shutdown)
            port = free_port() if dashboard else 9  # nothing answers on port 9
            with ray_internals.private_cluster_environment(ROOT, f"http://127.0.0.1:{port}"):
                ray_internals.init_with_retry(
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


def _runtime_environment() -> dict[str, Any]:
    """Return what the workers of a cluster started by others need: environment variables, and this project's packages.

    A Ray job brings its working directory itself. Otherwise a checkout is uploaded whole, so that relative paths work,
    and an installation's packages alone.
    """
    variables = {name: os.environ[name] for name in ray_internals.WORKER_ENVIRONMENT}
    address = os.environ["RAY_ADDRESS"]
    if ":" in address:  # without it, Ray's helper processes may ask another cluster on their machine
        variables["RAY_ADDRESS"] = address
    if ray_internals.inside_job():
        return {"env_vars": variables}
    if (ROOT / "pyproject.toml").is_file():
        return {"env_vars": variables, "working_dir": str(ROOT)}
    return {"env_vars": variables, "py_modules": [str(ROOT / package) for package in PACKAGES]}


def free_port() -> int:
    """Return a port that is still free seconds later, when its server starts.

    Ports from 32768 on are given to processes that ask for any port, as Ray's own do meanwhile.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):  # in use
            probe.bind(("127.0.0.1", 20_000 + secrets.randbelow(10_000)))
            return int(probe.getsockname()[1])


def _room(nodes: list[dict[str, Any]], joined: bool) -> Room:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = ([float(r.get(name, 0)) for r in alive] for name in ("CPU", "GPU"))
    return Room(sum(cpus), sum(gpus), max(cpus, default=0), max(gpus, default=0), joined)


def check_fits(room: Room, workers: int, cpus: float = 1, gpus: float = 0, name: str = "workers") -> int:
    """Return how many groups of `workers` workers fit at once, at least 1. cpus, gpus: of each worker.

    Raise ValueError, naming the largest possible value of the setting `name`, if not even one group fits.
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
    """Raise ValueError if workers without a GPU would train in a precision that this machine's processor cannot run.

    The nodes of a cluster started by others check this themselves.
    """
    if experiment.precision == "bfloat16" and not gpus and not room.attached:
        from arae_core.runtime.precision import check_precision  # imports torch: only where it matters

        check_precision(experiment, "cpu")


def use_gpu(device: str, room: Room) -> bool:
    """True if workers get GPUs. Raise ValueError if device is cuda and there is no GPU."""
    if device == "cuda" and not room.gpus:
        raise ValueError(f"device must be cpu or auto here, got 'cuda': no GPU among {room}")
    return device != "cpu" and room.gpus > 0


def writable(folder: Path) -> Path:
    """Create the folder if it is missing, and return its absolute path.

    Raise ValueError unless a file can be written there: before Ray starts, and not in its workers.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(folder)):
        raise ValueError(f"--storage must be a folder that all nodes see, not an address, got {str(folder)!r}")
    if in_ray_job() and not folder.expanduser().is_absolute():
        raise ValueError(
            f"--storage must be an absolute path in a Ray job, got {str(folder)!r}: Ray deletes the working directory "
            "of a job ($ARAE_STORAGE)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder.resolve()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"--storage {folder} cannot be written to ({reason}); name another folder") from None
