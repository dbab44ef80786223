"""Throughput of several trials on one device, compared with one trial alone.

    python benchmarks/packing.py --config paper-snli --trials 1,2,4,8

Each trial is a process of its own, as in a sweep with fractional resources (`--gpus-per-trial 0.25`), but without Ray.
All warm up, wait for each other, and train for the same number of seconds.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import above, at_least
from benchmarks import harness
from pipelines.cli.command_line import Arguments, Option, show
from pipelines.experiment.settings import Experiment

WARMUP_ON_GPU, MOST_SECONDS_TO_START = 100, 120.0
BLOCK = 25
"""Iterations between two readings of the clock."""
OPTIONS = (
    Option("trials", tuple[int, ...], (1, 2, 4, 8), "Numbers of trials that run at the same time."),
    Option("seconds", float, 8.0, "Seconds that the trials train."),
    harness.THREADS_PER_PROCESS,
    harness.DATA,
)


def trial(
    experiment: Experiment, data: Path | None, threads: int, device: str, seconds: float, barrier: Any
) -> tuple[int, float]:
    """Train in this process; return the number of iterations after the barrier, and their seconds."""
    import torch

    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    torch.set_num_threads(threads)
    store, spec, _ = examples(experiment, data)
    state = TrainingState(experiment, spec, device)
    reports = train(state, store, until=10**9, every=BLOCK)
    while state.step < (WARMUP_ON_GPU if state.device.type == "cuda" else BLOCK):
        next(reports)
    barrier.wait(MOST_SECONDS_TO_START)
    first, started = state.step, time.perf_counter()
    while time.perf_counter() - started < seconds:
        next(reports)
    return state.step - first, time.perf_counter() - started


def packed(count: int, arguments: Arguments, device: str) -> dict[str, Any]:
    """Run `count` trials at the same time; return their iterations per second."""
    options = arguments.options
    with multiprocessing.get_context("spawn").Manager() as manager:
        barrier = manager.Barrier(count)
        call = (arguments.experiment, options.data, options.threads, device, options.seconds, barrier)
        rates = [done / seconds for done, seconds in harness.in_processes(trial, [call] * count)]
    return {"trials": count, "iterations_per_second": sum(rates), "slowest": min(rates)}


def measured(arguments: Arguments) -> dict[str, Any]:
    """Measure every number of trials. ratio: all iterations per second / those of a trial in the first measurement."""
    options, rows = arguments.options, list[dict[str, Any]]()
    device, facts = harness.set_up(arguments)
    for count in options.trials:
        rows.append(packed(count, arguments, str(device)))
        rows[-1]["ratio"] = rows[-1]["iterations_per_second"] / (rows[0]["iterations_per_second"] / rows[0]["trials"])
        print("trials {trials}: {iterations_per_second:.1f} iterations/s".format(**rows[-1]), file=sys.stderr)
    return facts | {"rows": rows}


def table(report: dict[str, Any]) -> str:
    """Format the report."""
    lines = [harness.HEADER.format(**report)]
    lines += [f"{'trials':>6}{'iterations/s':>14}{'each':>10}{'ratio':>13}"]
    for row in report["rows"]:
        each = row["iterations_per_second"] / row["trials"]
        lines += [f"{row['trials']:>6}{row['iterations_per_second']:>14.1f}{each:>10.1f}{row['ratio']:>12.2f}x"]
    return "\n".join(lines)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Measure several trials on one device.", OPTIONS, "paper-snli")
    at_least("trials", min(arguments.options.trials, default=0), 1)
    above("seconds", arguments.options.seconds, 0.0)
    show(measured(arguments), table, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
