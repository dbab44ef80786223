"""Several workers that train one model, each on its own core, compared with one worker on one core.

    python benchmarks/workers.py --config paper-snli --worlds 1,2 --rounds 3

Workers are processes on this machine that exchange gradients by gloo, without Ray. `same batch`: the batch is split
among the workers, so they compute the same in less time. `a batch each`: the batch grows with their number. `exchange`
is the time per iteration spent on summing gradients over the workers, `waiting` the part of it spent in barriers and
all-reduces.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least
from benchmarks import harness
from pipelines.cli.command_line import Arguments, Option, show
from pipelines.experiment.settings import Experiment

ITERATIONS, WARMUP = 30, 5
OPTIONS = (
    Option("worlds", tuple[int, ...], (1, 2), "Numbers of workers."),
    Option("rounds", int, 3, "Times that everything is measured; the median counts."),
    harness.THREADS_PER_PROCESS,
    harness.DATA,
)


def worker(
    rank: int, world: int, experiment: Experiment, data: Path | None, threads: int, iterations: int, meeting: Path
) -> dict[str, float]:
    """Train as one of `world` processes, which meet at a file; return milliseconds per iteration."""
    import torch
    import torch.distributed as dist

    from arae_core.runtime.parallel import Parallel
    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples
    from benchmarks.parts import stopwatch

    torch.set_num_threads(threads)
    store, spec, _ = examples(experiment, data)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    state = TrainingState(experiment, spec)
    until = WARMUP + iterations
    timed = ((Parallel, "sum_gradients", "exchange"), (dist, "barrier", "waiting"), (dist, "all_reduce", "waiting"))
    with stopwatch(state.device, timed) as watch:
        for report in train(state, store, Parallel.from_process_group(), until=until, every=(WARMUP, until)):
            if report.step == WARMUP:
                watch.seconds.clear()
    if world > 1:
        dist.destroy_process_group()
    waiting, summing = (1000 * watch.seconds[part] / iterations for part in ("waiting", "exchange"))
    return {"ms": report.scalars["ms_per_iteration"], "exchange": waiting + summing, "waiting": waiting}


def timed(world: int, experiment: Experiment, arguments: Arguments) -> dict[str, float]:
    """Train with `world` workers; return the measurements of the first, and the examples per second of all."""
    options, iterations = arguments.options, harness.iterations_of(arguments, ITERATIONS)
    with tempfile.TemporaryDirectory() as folder:
        common = (world, experiment, options.data, options.threads, iterations, Path(folder, "meeting"))
        first: dict[str, float] = harness.in_processes(worker, [(rank, *common) for rank in range(world)])[0]
    return first | {"rate": 1000 * experiment.batch_size / first["ms"]}


def measured(arguments: Arguments) -> list[dict[str, Any]]:
    """Measure every number of workers; return medians over the rounds, and ratios to the first measurement."""
    experiment, worlds = arguments.experiment, arguments.options.worlds
    plans = [(world, "same batch", experiment) for world in worlds]
    plans += [
        (world, "a batch each", replace(experiment, batch_size=world * experiment.batch_size))
        for world in worlds
        if world > 1
    ]
    found: list[list[dict[str, float]]] = [[] for _ in plans]
    for i in range(arguments.options.rounds):
        for (world, batches, planned), rounds in zip(plans, found, strict=True):
            rounds.append(timed(world, planned, arguments))
            rate = rounds[-1]["rate"]
            print(f"round {i + 1}: {world} workers, {batches}: {rate:.0f} examples/s", file=sys.stderr)
    return [
        {
            "workers": world,
            "how": batches,
            "batch_size": planned.batch_size,
            "examples_per_second": statistics.median(each["rate"] for each in rounds),
            "ratio": statistics.median(a["rate"] / b["rate"] for a, b in zip(rounds, found[0], strict=True)),
            **{name: statistics.median(each[name] for each in rounds) for name in ("ms", "exchange", "waiting")},
        }
        for (world, batches, planned), rounds in zip(plans, found, strict=True)
    ]


def table(report: dict[str, Any]) -> str:
    """Format the report."""
    lines = [harness.HEADER.format(**report) + " per worker"]
    lines += [
        f"{'workers':>7}  {'':<14}{'batch':>6}{'examples/s':>12}{'ratio':>8}{'ms':>8}{'exchange':>10}{'waiting':>9}"
    ]
    for row in report["rows"]:
        name = f"{row['workers']:>7}  {row['how']:<14}{row['batch_size']:>6}"
        times = "{ms:>8.1f}{exchange:>10.1f}{waiting:>9.1f}".format(**row)
        lines += [name + f"{row['examples_per_second']:>12.0f}{row['ratio']:>7.2f}x{times}"]
    return "\n".join(lines)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Measure several workers that train one model.", OPTIONS, "paper-snli")
    at_least("worlds", min(arguments.options.worlds, default=0), 1)
    _, facts = harness.set_up(arguments, "cpu")
    show(facts | {"rows": measured(arguments)}, table, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
