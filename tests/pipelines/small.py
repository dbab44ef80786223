"""A small experiment, and helpers that look at its checkpoints and processes."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.sweeps.search_space import Space
from pipelines.sweeps.sweep import Sweep
from pipelines.training.worker import Metrics, Task

SMALL: dict[str, Any] = {
    "data.size": 600,
    "batch_size": 14,
    "iterations": 24,
    "evaluate_every": 6,
    "log_every": 3,
    "samples": 30,
    "encoder.embedding": 5,
    "encoder.hidden": (13,),
    "decoder.embedding": 5,
    "decoder.hidden": (13,),
    "code.size": 11,
    "generator.noise_size": 3,
    "generator.hidden": (8,),
    "critic.hidden": (8,),
    "critic.steps": 2,
}
Make = Callable[..., Sweep]
RATES: Space = {
    "critic.learning_rate": ("loguniform", 1e-5, 1e-2),
    "critic.steps": ("choice", [1, 2, 3]),
    "code.noise": ("uniform", 0.0, 0.3),
}


def weights(checkpoint: Path) -> dict[str, str]:
    """Return the digest of every tensor of a checkpoint, training state included: equal means bit-identical."""
    from safetensors.numpy import load_file

    tensors = load_file(checkpoint / "model.safetensors") | load_file(checkpoint / "training.safetensors")
    return {name: hashlib.sha256(tensor.tobytes()).hexdigest() for name, tensor in tensors.items()}


def train_alone(task: Task, folder: Path) -> Path:
    """Train in this process; return a copy of the last checkpoint."""
    from arae_core.runtime.parallel import Parallel
    from pipelines.training.worker import train_worker

    def report(metrics: Metrics, checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint, folder)

    train_worker(task, Parallel(), report)
    return folder


def step_of(checkpoint: Path) -> int:
    return int(json.loads((checkpoint / "manifest.json").read_text())["step"])


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint with the most steps in a folder."""
    return max((file.parent for file in folder.glob("*/manifest.json")), key=step_of)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield (pid, command line) of all descendants of a process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    queue = [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            queue.append(child)
            try:
                yield child, Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue


def workers_of(pid: int = 0) -> list[int]:
    """Return the training workers below this process (or another): Ray names them."""
    return [child for child, command in descendants(pid or os.getpid()) if "RayTrainWorker" in command]
