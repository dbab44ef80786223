"""Operators and kernels of an iteration, sorted by the time that they take.

    python benchmarks/kernels.py --config paper-snli
    python benchmarks/kernels.py --config paper-snli --cuda-graphs off

On a GPU: the kernels of an iteration, how long they keep the device busy, and how long an iteration takes. The
difference is the time in which the device waits for the host to launch kernels.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import harness
from pipelines.cli.command_line import Arguments, Option, show

ITERATIONS = 20
WARMUP_ON_GPU = 100
OPTIONS = (harness.THREADS, harness.DATA, Option("rows", int, 15, "Number of operators or kernels to show."))


def profiled(arguments: Arguments) -> dict[str, Any]:
    """Return the times of an iteration and the operators (on a GPU, the kernels) that take most of it."""
    from torch.profiler import ProfilerActivity, profile

    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    experiment, options = arguments.experiment, arguments.options
    device, facts = harness.set_up(arguments)
    on_gpu = device.type == "cuda"
    store, spec, _ = examples(experiment, options.data)
    iterations = harness.iterations_of(arguments, ITERATIONS)
    state = TrainingState(experiment, spec, device)
    reports = train(state, store, until=10**9, every=iterations)
    for _ in range(-(-WARMUP_ON_GPU // iterations) if on_gpu else 1):
        next(reports)
    started = time.perf_counter()
    next(reports)
    ms = 1000 * (time.perf_counter() - started) / iterations
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        next(reports)
    rows = _rows(profiler.key_averages(), iterations, on_gpu)
    return facts | {
        "cuda_graphs": experiment.cuda_graphs if on_gpu else "off",
        "ms_per_iteration": ms,
        "busy_ms": sum(row["ms"] for row in rows),
        "calls": sum(row["calls"] for row in rows),
        "rows": rows[: options.rows],
    }


def _rows(events: Any, iterations: int, on_gpu: bool) -> list[dict[str, Any]]:
    """Return a row per operator or kernel, the longest first."""
    device_type, rows = "DeviceType.CUDA" if on_gpu else "DeviceType.CPU", []
    for event in events:
        # A GPU's timeline also contains the ranges of optimizers, whose kernels have events of their own.
        if str(event.device_type) == device_type and not (on_gpu and event.key.startswith("Optimizer.")):
            busy = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            rows.append({"name": event.key, "calls": event.count / iterations, "ms": busy / 1000 / iterations})
    return sorted(rows, key=lambda row: -row["ms"])


def table(report: dict[str, Any]) -> str:
    """Format the report."""
    times = "an iteration takes {ms_per_iteration:.2f} ms, {busy_ms:.2f} ms of it in {calls:.0f} calls (profiled)"
    lines = [
        harness.HEADER.format(**report) + f", CUDA graphs {report['cuda_graphs']}",
        times.format(**report),
        f"{'calls':>8}{'ms':>9}  name",
    ]
    lines += [f"{row['calls']:>8.1f}{row['ms']:>9.3f}  {row['name'][:100]}" for row in report["rows"]]
    return "\n".join(lines)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Show the operators and kernels of an iteration.", OPTIONS, "paper-snli")
    show(profiled(arguments), table, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
