"""Several trials on one device: what they train together, against one alone.

    python benchmarks/packing.py --config paper-snli --trials 1,2,4,8

Each trial is a process of its own, as in a sweep with fractional resources (`--gpus-per-trial 0.25`), here without Ray.
All warm up, wait for each other, and train for as many seconds.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import above, at_least, require
from pipelines.cli.command_line import Arguments, Option, parse, run, show
from pipelines.experiment.settings import Experiment

WARMUP, MOST_SECONDS_TO_START = 100, 120.0
BLOCK = 25
"""Iterations between two looks at the clock."""
OPTIONS = (
    Option("trials", str, "1,2,4,8", "Numbers of trials to run at a time, with commas."),
    Option("seconds", float, 8.0, "How long all of them train."),
    Option("threads", int, 1, "Threads of each."),
    Option("data", Path, None, "Text file of one sentence a line, or a folder with train.txt. Default: synthetic."),
)


def trial(
    experiment: Experiment, data: Path | None, threads: int, device: str, seconds: float, gate: Barrier, results: Any
) -> None:
    """One process: iterations in the seconds that all of them train, and the seconds that those took."""
    import torch

    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    torch.set_num_threads(threads)
    store, shape, _ = examples(experiment, data)
    state = TrainingState(experiment, shape, device)
    reports = train(state, store, until=10**9, every=BLOCK)
    while state.step < (WARMUP if device == "cuda" else BLOCK):
        next(reports)
    gate.wait(MOST_SECONDS_TO_START)
    first, started = state.step, time.perf_counter()
    while time.perf_counter() - started < seconds:
        next(reports)
    results.put((state.step - first, time.perf_counter() - started))


def together(count: int, arguments: Arguments, device: str) -> dict[str, Any]:
    """`count` trials at a time: iterations a second, of all of them."""
    options = arguments.options
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(count), context.Queue()
    what = (arguments.experiment, options.data, options.threads, device, options.seconds, gate, results)
    processes = [context.Process(target=trial, args=what, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"one of {count} trials ended with status {process.exitcode}; its error is above")
    rates = [done / taken for done, taken in (results.get() for _ in processes)]
    return {"trials": count, "iterations_per_second": sum(rates), "slowest": min(rates)}


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = ["{config}: {device}, {threads} threads a trial".format(**report)]
    lines += [f"{'trials':>6}{'iterations/s':>14}{'each':>10}{'against one':>13}"]
    for row in report["rows"]:
        each = row["iterations_per_second"] / row["trials"]
        lines += [f"{row['trials']:>6}{row['iterations_per_second']:>14.1f}{each:>10.1f}{row['ratio']:>12.2f}x"]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    import torch

    arguments = parse(words, "Measure several trials on one device.", OPTIONS, config="paper-snli")
    options = arguments.options
    try:
        counts = [int(part) for part in options.trials.split(",")]
    except ValueError:
        counts = []
    require(bool(counts) and min(counts) > 0, "trials", options.trials, "numbers >= 1 with commas, such as 1,2,4")
    at_least("threads", options.threads, 1)
    above("seconds", options.seconds, 0.0)
    wanted = arguments.experiment.device
    device = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for count in counts:
        rows.append(together(count, arguments, device))
        rows[-1]["ratio"] = rows[-1]["iterations_per_second"] / (rows[0]["iterations_per_second"] / rows[0]["trials"])
        print("{trials} at a time: {iterations_per_second:.1f} iterations/s".format(**rows[-1]), file=sys.stderr)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    report = {"config": arguments.experiment.name, "device": name, "threads": options.threads, "rows": rows}
    show(report, table, options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
