"""How fast an iteration can be at all, part by part, beside how fast it is.

    python benchmarks/floor.py --config paper-snli

A part's floor is what takes longer: its operations (see `costs`) at the speed of a large product, or its bytes at that
of a large copy. No floor knows that an LSTM's steps wait for each other, that a cache may hold what is read again, or
that a GPU may compute an LSTM's float32 in TF32. Needs no Ray.
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

from arae_core.settings.checks import at_least
from benchmarks.costs import Part, iteration_parts
from pipelines.cli.command_line import Arguments, Option, parse, run, show
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    import torch

    from arae_core.data.batches import Store
    from arae_core.training.state import TrainingState

ITERATIONS = {"cpu": 50, "cuda": 1000}
"""On a GPU more: a step is captured when it meets a width of sentences for the second time, and not timed before."""
BLOCKS = 5
"""The iterations are timed in so many blocks, after one more that is not."""
WATCHED_ITERATIONS = 20
"""Most iterations that the parts are taken from; they are timed apart, step by step."""
ROWS = {"cpu": 2048, "cuda": 8192}
"""And columns, of the largest product that operations a second are taken from."""
LONG = 0.1
"""Seconds of a product of which no larger one is tried: without instructions for it, bfloat16 is very slow."""
COPIED = {"cpu": 2**28, "cuda": 2**30}
"""Bytes of the copy that bytes a second are taken from."""

OPTIONS = (
    Option("threads", int, 2, "Threads that torch may use."),
    Option("data", Path, None, "Text file of one sentence a line, or a folder with train.txt. Default: synthetic."),
)


def chosen_device(experiment: Experiment) -> "torch.device":
    """The device that the experiment asks for. Raises ValueError for a GPU where there is none."""
    import torch

    there = torch.cuda.is_available()
    if experiment.device == "cuda" and not there:
        raise ValueError("device must be cpu or auto here, where torch sees no GPU; got 'cuda'")
    return torch.device("cuda" if there and experiment.device == "auto" else experiment.device.replace("auto", "cpu"))


def fastest_product(device: "torch.device", precision: str, rows: int = 0) -> float:
    """Operations a second of the fastest square product, a multiply-add as two. rows: of the largest that is tried."""
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
    """Bytes a second, read and written, of one large copy."""
    import torch

    source = torch.ones(size or COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)


def _seconds(work: Callable[[], object], device: "torch.device") -> float:
    """Of one call: the median of seven tries, or of as many as a second holds."""
    import torch

    calls, times = (10, []) if device.type == "cuda" else (1, list[float]())
    work()
    while len(times) < 7 and (not times or calls * sum(times) < 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        for _ in range(calls):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - started) / calls)
    return statistics.median(times)


def floor_ms(part: Part, ceilings: Mapping[str, float]) -> float:
    """Milliseconds that the part takes at least. ceilings: operations a second by precision, and "bytes" a second."""
    return 1000 * max(part.cost.flops / ceilings[part.precision], part.cost.bytes / ceilings["bytes"])


def block_times(state: "TrainingState", store: "Store", *, iterations: int, warm_up: int, blocks: int) -> list[float]:
    """Milliseconds an iteration in each of `blocks` blocks of `iterations` of training, after `warm_up` that are not
    timed (at most as many as a block has)."""
    from arae_core.training.loop import train

    assert 1 <= warm_up <= iterations
    state.step = iterations - warm_up  # so that the first report is due when they are over
    _, *reports = train(state, store, until=(1 + blocks) * iterations, every=iterations)
    return [report.scalars["ms_per_iteration"] for report in reports]


def part_times(state: "TrainingState", store: "Store", iterations: int) -> dict[str, float]:
    """Milliseconds an iteration of each of `parts.PARTS`, the steps called one by one."""
    from arae_core.algorithm import iteration
    from arae_core.data.batch_sampler import BatchSampler
    from arae_core.runtime.parallel import Parallel
    from benchmarks.parts import PARTS, watched

    settings, on_gpu = state.settings, state.device.type == "cuda"
    longest = settings.longest if on_gpu else 0  # padded as it is in training
    feed = BatchSampler(store, state.spec, settings.batch_size, settings.seed, device=state.device, padded_to=longest)
    with watched(state.device) as watch:
        for _ in range(iterations):
            with watch.part("other"):
                iteration(state, feed, Parallel())
    return {part: 1000 * watch.seconds[part] / iterations for part in PARTS}


def measured(arguments: Arguments) -> dict[str, Any]:
    """The floor of an iteration and of its parts, and their times."""
    import torch

    from arae_core.data.batches import TokenStore
    from arae_core.runtime.precision import precision_on
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    experiment, options = arguments.experiment, arguments.options
    torch.set_num_threads(options.threads)
    device = chosen_device(experiment)
    experiment = replace(experiment, precision=precision_on(device, experiment))
    store, spec, _ = examples(experiment, options.data)
    length = float(store.lengths.mean()) + 1 if isinstance(store, TokenStore) else 0.0
    parts = iteration_parts(experiment, spec, length, device.type)
    precisions = dict.fromkeys(("float32", "bfloat16", experiment.precision))
    ceilings = {name: fastest_product(device, name) for name in precisions} | {"bytes": fastest_copy(device)}
    state = TrainingState(experiment, spec, device)
    iterations = arguments.given.get("iterations") or ITERATIONS[device.type]
    block = -(-iterations // BLOCKS)
    whole = statistics.median(block_times(state, store, iterations=block, warm_up=block, blocks=BLOCKS))
    times = part_times(state, store, min(iterations, WATCHED_ITERATIONS))
    return {
        "config": experiment.name,
        "batch_size": experiment.batch_size,
        "precision": experiment.precision,
        "threads": options.threads,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "length": length,
        "ceilings": ceilings,
        "parts": [{"within": p.within, "part": p.name} | _figures([p], ceilings) for p in parts],
        "steps": {name: _figures([p for p in parts if p.within == name], ceilings, ms) for name, ms in times.items()},
        "iteration": _figures(parts, ceilings, whole),
    }


def _figures(parts: Sequence[Part], ceilings: Mapping[str, float], ms: float | None = None) -> dict[str, float]:
    """Of some parts together; and where their time is known, how much of it is their floor."""
    figures = {
        "gflop": sum(part.cost.flops for part in parts) / 1e9,
        "mb": sum(part.cost.bytes for part in parts) / 1e6,
        "floor_ms": sum(floor_ms(part, ceilings) for part in parts),
    }
    return figures if ms is None else figures | {"ms": ms, "share": figures["floor_ms"] / ms if ms else 0.0}


def table(report: dict[str, Any]) -> str:
    """The report to read: the measured steps, and under each the parts that it has."""

    def line(name: str, figures: Mapping[str, float]) -> str:
        text = f"{name:<30}{figures['gflop']:>9.2f}{figures['mb']:>9.1f}{figures['floor_ms']:>11.3f}"
        return text + (f"{figures['ms']:>14.3f}{figures['share']:>8.1%}" if "ms" in figures else "")

    *speeds, copied = report["ceilings"].items()
    lines = [
        "{config}: batch {batch_size}, {precision}, {device}, threads {threads}, torch {torch}".format(**report)
        + (f"; {report['length']:.1f} tokens a sentence, end mark counted" if report["length"] else ""),
        "at most " + ", ".join(f"{speed / 1e9:,.0f} GFLOP/s in {name}" for name, speed in speeds),
        f"        {copied[1] / 1e9:,.1f} GB/s, read and written",
        "",
        f"{'part':<30}{'GFLOP':>9}{'MB':>9}{'floor ms':>11}{'measured ms':>14}{'floor':>8}",
    ]
    for step, figures in report["steps"].items():
        lines += [line(step, figures)]
        lines += [line("  " + part["part"], part) for part in report["parts"] if part["within"] == step]
    return "\n".join([*lines, line("whole iteration, as trained", report["iteration"])])


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = parse(
        words, "Measure how far an iteration is from the least it could take.", OPTIONS, config="paper-snli"
    )
    at_least("threads", arguments.options.threads, 1)
    report = measured(arguments)
    show(report, table, arguments.options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
