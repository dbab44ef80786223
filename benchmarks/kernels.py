"""What runs in an iteration, as text: operators and kernels by the time they take, and how much of it the host waits.

    python benchmarks/kernels.py --config paper-snli
    python benchmarks/kernels.py --config paper-snli --cuda-graphs off

On a GPU: the kernels of an iteration, how long the device is busy with them, and how long an iteration takes. What is
left is the host, which launches them.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least
from pipelines.cli.command_line import Arguments, Option, parse, run, show

ITERATIONS = 20
OPTIONS = (
    Option("threads", int, 2, "Threads that torch may use."),
    Option("data", Path, None, "Text file of one sentence a line, or a folder with train.txt. Default: synthetic."),
    Option("rows", int, 15, "Operators or kernels to show."),
)


def profiled(arguments: Arguments) -> dict[str, Any]:
    """Times of an iteration, and the operators (on a GPU, the kernels) that take most of it."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    experiment, options = arguments.experiment, arguments.options
    torch.set_num_threads(options.threads)
    wanted = experiment.device if experiment.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    on_gpu = wanted == "cuda"
    store, shape, _ = examples(experiment, options.data)
    iterations = arguments.given.get("iterations") or ITERATIONS
    state = TrainingState(experiment, shape, wanted)
    reports = train(state, store, until=10**9, every=iterations)
    for _ in range(-(-100 // iterations) if on_gpu else 1):
        next(reports)
    started = time.perf_counter()
    next(reports)
    ms = 1000 * (time.perf_counter() - started) / iterations
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        next(reports)
    kind = "DeviceType.CUDA" if on_gpu else "DeviceType.CPU"
    rows = []
    for event in seen.key_averages():
        # a GPU's timeline also has the ranges of optimizers, in which kernels lie that are counted already
        if str(event.device_type) == kind and not (on_gpu and event.key.startswith("Optimizer.")):
            busy = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            rows.append({"name": event.key, "calls": event.count / iterations, "ms": busy / 1000 / iterations})
    rows.sort(key=lambda row: -row["ms"])
    return {
        "config": experiment.name,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "precision": state.precision,
        "cuda_graphs": experiment.cuda_graphs if on_gpu else "off",
        "ms_per_iteration": ms,
        "busy_ms": sum(row["ms"] for row in rows),
        "calls": sum(row["calls"] for row in rows),
        "rows": rows[: options.rows],
    }


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = [
        "{config}: {device}, {precision}, CUDA graphs {cuda_graphs}".format(**report),
        "an iteration takes {ms_per_iteration:.2f} ms, {busy_ms:.2f} ms of it in {calls:.0f} calls (profiled)".format(
            **report
        ),
        f"{'calls':>8}{'ms':>9}  name",
    ]
    lines += [f"{row['calls']:>8.1f}{row['ms']:>9.3f}  {row['name'][:100]}" for row in report["rows"]]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = parse(words, "Show what runs in an iteration.", OPTIONS, config="paper-snli")
    at_least("threads", arguments.options.threads, 1)
    at_least("rows", arguments.options.rows, 1)
    report = profiled(arguments)
    show(report, table, arguments.options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
