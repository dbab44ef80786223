"""Options, devices, processes and output shared by the benchmarks. Imports no torch until a function needs it."""

import json
import multiprocessing
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arae_core.settings.checks import at_least
from pipelines.cli import command_line
from pipelines.cli.command_line import Arguments, Option
from pipelines.cli.flags import spelled

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
THREADS = Option("threads", int, 2, "Threads that torch may use.")
THREADS_PER_PROCESS = Option("threads", int, 1, "Threads that torch may use in each process.")
DATA = Option("data", Path, None, "Text file with a sentence per line, or a folder with train.txt. Default: synthetic.")
POSITIVE = ("threads", "rounds", "rows")
"""Options that must be at least 1."""
HEADER = "{config}: batch {batch_size}, {precision}, {device}, threads {threads}, torch {torch}"
"""First line of a report, formatted with the facts of `set_up`."""


def command(body: Callable[[Sequence[str] | None], None]) -> "partial[int]":
    """Make a `main` from a function of the arguments: it handles errors and returns the exit status."""
    return partial(command_line.run, body)


def parse(
    words: Sequence[str] | None,
    description: str,
    options: Sequence[Option],
    config: str,
    *,
    classification: bool = False,
) -> Arguments:
    """Read the command line of a benchmark that trains; `config` is the default preset.

    Raise ValueError for invalid values, among them POSITIVE options below 1.
    """
    arguments = command_line.parse(words, description, options, config=config, classification=classification)
    for name in POSITIVE:
        at_least(name, getattr(arguments.options, name, 1), 1)
    return arguments


def iterations_of(arguments: Arguments, default: int) -> int:
    """Return the value of --iterations, or the default if the flag was not given."""
    return int(arguments.given.get("iterations") or default)


def setting_flags(arguments: Arguments) -> list[str]:
    """Return the flags of all settings that were given, for a command that runs in another process."""
    return [f"--{name}={spelled(value)}" for name, value in arguments.given.items()]


def device_named(name: str) -> "torch.device":
    """Return the device for auto, cpu or cuda. Raise ValueError if it is cuda and torch finds no GPU."""
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("device must be cpu or auto on a machine without a GPU that torch can use, got 'cuda'")
    return torch.device("cuda" if available and name == "auto" else name.replace("auto", "cpu"))


def device_title(device: "torch.device") -> str:
    """Return the model of a GPU, or "cpu"."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def set_up(arguments: Arguments, device_name: str = "") -> "tuple[torch.device, dict[str, Any]]":
    """Set the number of threads; return the device, and the facts that a report begins with (see HEADER).

    device_name: of another device than the experiment's.
    """
    import torch

    from arae_core.runtime.precision import precision_on

    experiment, threads = arguments.experiment, arguments.options.threads
    torch.set_num_threads(threads)
    device = device_named(device_name or experiment.device)
    return device, {
        "config": experiment.name,
        "batch_size": experiment.batch_size,
        "precision": precision_on(device, experiment),
        "threads": threads,
        "device": device_title(device),
        "torch": torch.__version__,
    }


def resident_mb() -> float:
    """Return the resident memory of this process in megabytes. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))


def in_processes(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run function(*call) for every call at the same time, each in a new process; return the results in order."""
    with ProcessPoolExecutor(len(calls), multiprocessing.get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(function, *call) for call in calls]]


def last_json(title: str, command: Sequence[str], *, show_errors: bool = False, **how: Any) -> dict[str, Any]:
    """Run a command and return the JSON object on the last line of its output.

    title: how error messages name the command. show_errors: pass its stderr through. how: arguments of subprocess.run.

    Raise ValueError if the command cannot be run, fails, or prints no such object.
    """
    output = run_command(title, command, show_errors=show_errors, **how)
    try:
        found = json.loads(output.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{title} must print a JSON object as its last line")
    return found


def run_command(title: str, command: Sequence[str], *, show_errors: bool = False, **how: Any) -> str:
    """Run a command and return its standard output. Arguments and errors as for `last_json`."""
    stderr = None if show_errors else subprocess.PIPE
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, **how)
    except OSError as error:
        raise ValueError(f"{title} must be a command that can be run, got {list(command)}: {error}") from None
    if done.returncode:
        last = (done.stdout + (done.stderr or "")).strip().splitlines()[-5:]
        raise ValueError(f"{title} ended with status {done.returncode}: {' / '.join(last)}")
    output: str = done.stdout
    return output


def print_rows(rows: Sequence[Mapping[str, Any]], title: str, width: int | None = None) -> None:
    """Print rows as a table with a column for each key."""
    from rich.console import Console

    from pipelines.reporting.display import rows_table

    Console(width=width, highlight=False).print(rows_table([dict(row) for row in rows], title))


def save_picture(figure: "Figure", file: Path) -> None:
    """Save a figure; create its folder if necessary."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
