"""Lower bound of an iteration's time, part by part, beside the measured time.

    python benchmarks/floor.py --config paper-snli

The bound of a part is the longer of two times: its operations (see `costs`) at the speed of a large matrix product, and
its bytes at the speed of a large copy. It ignores that the steps of an LSTM run one after the other, that caches may
hold what is read again, and that a GPU may compute an LSTM's float32 in TF32. Needs no Ray.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import harness
from benchmarks.costs import Part, iteration_parts
from pipelines.cli.command_line import Arguments, show

if TYPE_CHECKING:
    import torch

    from arae_core.data.batches import Store
    from arae_core.training.state import TrainingState

ITERATIONS = {"cpu": 50, "cuda": 1000}
"""On a GPU, a step is captured at the second batch of a width, and that must happen before the measurement."""
BLOCKS = 5
"""The iterations are timed in this many blocks, after one more that is not timed."""
ROWS = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the largest matrix product."""
LONG = 0.1
"""No product is tried after one that takes this many seconds: bfloat16 without instructions for it is very slow."""
COPIED = {"cpu": 2**28, "cuda": 2**30}
"""Bytes of the copy."""

OPTIONS = (harness.THREADS, harness.DATA)


def fastest_product(device: "torch.device", precision: str, rows: int = 0) -> float:
    """Return operations per second of the fastest square product, a multiply-add as two operations.

    rows: of the largest product to try.
    """
    import torch

    largest, speeds = rows or ROWS[device.type], list[float]()
    rows, seconds = min(largest, 256), 0.0
    while rows <= largest and seconds < LONG:
        left, right = (torch.randn(rows, rows, device=device).to(getattr(torch, precision)) for _ in range(2))
        seconds = _seconds(functools.partial(torch.mm, left, right), device)
        speeds.append(2 * rows**3 / seconds)
        rows *= 2
    return max(speeds)


def fastest_copy(device: "torch.device", size: int = 0) -> float:
    """Return bytes per second, read and written, of one large copy."""
    import torch

    source = torch.ones(size or COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)


def _seconds(function: Callable[[], object], device: "torch.device") -> float:
    """Return the seconds of one call: the median of seven measurements, or of as many as fit into a second."""
    import torch

    calls, times = (10, []) if device.type == "cuda" else (1, list[float]())

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    function()
    while len(times) < 7 and (not times or calls * sum(times) < 1):
        synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            function()
        synchronize()
        times.append((time.perf_counter() - started) / calls)
    return statistics.median(times)


def floor_ms(part: Part, peaks: Mapping[str, float]) -> float:
    """Return the least milliseconds of a part. peaks: operations per second by precision, and "bytes" per second."""
    return 1000 * max(part.cost.flops / peaks[part.precision], part.cost.bytes / peaks["bytes"])


def block_times(state: "TrainingState", store: "Store", *, iterations: int, warm_up: int, blocks: int) -> list[float]:
    """Train, and return the milliseconds per iteration of each of `blocks` blocks of `iterations` iterations.

    warm_up: iterations before the first block, from 1 to `iterations`.
    """
    from arae_core.training.loop import train

    assert 1 <= warm_up <= iterations
    state.step = iterations - warm_up  # so that the first report comes at the end of the warm-up
    _, *reports = train(state, store, until=(1 + blocks) * iterations, every=iterations)
    return [report.scalars["ms_per_iteration"] for report in reports]


def measured(arguments: Arguments) -> dict[str, Any]:
    """Return the lower bounds and the times of an iteration and of its parts."""
    from arae_core.data.batches import TokenStore
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples
    from benchmarks.parts import batch_sampler, part_times

    device, facts = harness.set_up(arguments)
    experiment = replace(arguments.experiment, precision=facts["precision"])
    store, spec, _ = examples(experiment, arguments.options.data)
    length = float(store.lengths.mean()) + 1 if isinstance(store, TokenStore) else 0.0
    parts = iteration_parts(experiment, spec, length, device.type)
    precisions = dict.fromkeys(("float32", "bfloat16", experiment.precision))
    peaks = {name: fastest_product(device, name) for name in precisions} | {"bytes": fastest_copy(device)}
    state = TrainingState(experiment, spec, device)
    iterations = harness.iterations_of(arguments, ITERATIONS[device.type])
    block = -(-iterations // BLOCKS)
    whole = statistics.median(block_times(state, store, iterations=block, warm_up=block, blocks=BLOCKS))
    times = part_times(state, batch_sampler(state, store), iterations)
    return facts | {
        "length": length,
        "ceilings": peaks,
        "parts": [{"within": p.within, "part": p.name} | _figures([p], peaks) for p in parts],
        "steps": {name: _figures([p for p in parts if p.within == name], peaks, ms) for name, ms in times.items()},
        "iteration": _figures(parts, peaks, whole),
    }


def _figures(parts: Sequence[Part], peaks: Mapping[str, float], ms: float | None = None) -> dict[str, float]:
    """Return the sums over some parts, and if their time is known, the share of it that is their lower bound."""
    figures = {
        "gflop": sum(part.cost.flops for part in parts) / 1e9,
        "mb": sum(part.cost.bytes for part in parts) / 1e6,
        "floor_ms": sum(floor_ms(part, peaks) for part in parts),
    }
    return figures if ms is None else figures | {"ms": ms, "share": figures["floor_ms"] / ms if ms else 0.0}


def table(report: dict[str, Any]) -> str:
    """Format the report: the measured steps, and below each its parts."""

    def line(name: str, figures: Mapping[str, float]) -> str:
        text = f"{name:<30}{figures['gflop']:>9.2f}{figures['mb']:>9.1f}{figures['floor_ms']:>11.3f}"
        return text + (f"{figures['ms']:>14.3f}{figures['share']:>8.1%}" if "ms" in figures else "")

    *speeds, copied = report["ceilings"].items()
    lines = [
        harness.HEADER.format(**report)
        + (f"; {report['length']:.1f} tokens per sentence, end mark included" if report["length"] else ""),
        "at most " + ", ".join(f"{speed / 1e9:,.0f} GFLOP/s in {name}" for name, speed in speeds),
        f"        {copied[1] / 1e9:,.1f} GB/s, read and written",
        "",
        f"{'part':<30}{'GFLOP':>9}{'MB':>9}{'floor ms':>11}{'measured ms':>14}{'floor':>8}",
    ]
    for step, figures in report["steps"].items():
        lines += [line(step, figures)]
        lines += [line("  " + part["part"], part) for part in report["parts"] if part["within"] == step]
    return "\n".join([*lines, line("whole iteration, as trained", report["iteration"])])


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Compare the time of an iteration with its lower bound.", OPTIONS, "paper-snli")
    show(measured(arguments), table, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
