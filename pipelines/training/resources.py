"""Resources that the workers of a training reserve."""

from dataclasses import dataclass

from pipelines.experiment.settings import Experiment
from pipelines.runtime.cluster import Room, check_fits, check_precision, use_gpu


@dataclass(frozen=True)
class WorkerResources:
    """Number of workers, and the CPUs and GPUs of each."""

    workers: int
    cpus: float
    gpus: float
    min_workers: int = 0
    """Workers with which an elastic training starts if there is no room for all; 0: it waits for all."""

    def __str__(self) -> str:
        count = f"{self.min_workers} to {self.workers}" if self.min_workers else str(self.workers)
        return f"{count} worker" + ("s" if self.workers > 1 else "")


def training_resources(room: Room, experiment: Experiment) -> WorkerResources:
    """Divide a private cluster evenly among the workers of a training; reserve one CPU a worker in a shared cluster.

    Raise ValueError if the workers do not fit.
    """
    workers, least = experiment.workers, experiment.min_workers
    gpus = 1.0 if use_gpu(experiment.device, room) else 0.0
    check_fits(room, least or workers, 1, gpus, name="min_workers" if least else "workers")
    check_precision(room, experiment, gpus)
    return WorkerResources(workers, 1.0 if room.attached else max(1.0, room.cpus // workers), gpus, least)
