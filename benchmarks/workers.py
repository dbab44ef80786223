"""Workers that train one model, each on a core of its own, against one worker on one core.

    python benchmarks/workers.py --config paper-snli --worlds 1,2 --rounds 3

Processes on this machine, gradients by gloo, without Ray. `same batch`: the batch is split between the workers, who
compute what one does, sooner. `a batch each`: it grows with their number.
"""

import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.checks import at_least, require
from pipelines.experiment.command_line import Arguments, Option, emit_json, parse, run
from pipelines.experiment.settings import Experiment

ITERATIONS, WARMUP = 30, 5
OPTIONS = (
    Option("worlds", str, "1,2", "Numbers of workers, with commas."),
    Option("threads", int, 1, "Threads of each."),
    Option("rounds", int, 3, "Turns taken."),
    Option("data", Path, None, "Text file of one sentence a line, or a folder with train.txt. Default: synthetic."),
)


def worker(
    rank: int, world: int, experiment: Experiment, data: Path | None, threads: int, iterations: int, folder: str
) -> None:
    """One process of `world`; the first writes how long an iteration took."""
    import torch
    import torch.distributed as dist

    from arae_core.parallel import Parallel
    from arae_core.state import TrainingState
    from arae_core.training import train
    from benchmarks.examples import examples

    torch.set_num_threads(threads)
    store, shape, _ = examples(experiment, data)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    state = TrainingState(experiment, shape)
    until = WARMUP + iterations
    reports = list(train(state, store, Parallel.from_process_group(), until=until, every=(WARMUP, until)))
    if world > 1:
        dist.destroy_process_group()
    if rank == 0:
        steps = [(report.scalars["ms_per_iteration"], report.step) for report in reports if report.step > WARMUP]
        Path(folder, "ms").write_text(str(statistics.fmean(ms for ms, _ in steps)))


def timed(world: int, experiment: Experiment, arguments: Arguments) -> float:
    """Milliseconds an iteration of `world` workers."""
    context, options = multiprocessing.get_context("spawn"), arguments.options
    iterations = arguments.given.get("iterations") or ITERATIONS
    with tempfile.TemporaryDirectory() as folder:
        what = (world, experiment, options.data, options.threads, iterations, folder)
        processes = [context.Process(target=worker, args=(rank, *what)) for rank in range(world)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"one of {world} workers ended with status {process.exitcode}; its error is above")
        return float(Path(folder, "ms").read_text())


def measured(arguments: Arguments, worlds: Sequence[int]) -> list[dict[str, Any]]:
    """Every number of workers in turn, and what it gains over the first; medians over the turns."""
    experiment, rows = arguments.experiment, []
    plans = [(world, "same batch", experiment) for world in worlds]
    plans += [
        (world, "a batch each", replace(experiment, batch_size=world * experiment.batch_size))
        for world in worlds
        if world > 1
    ]
    rates: list[list[float]] = [[] for _ in plans]
    for turn in range(arguments.options.rounds):
        for (world, how, planned), found in zip(plans, rates, strict=True):
            found.append(1000 * planned.batch_size / timed(world, planned, arguments))
            print(f"round {turn + 1}: {world} workers, {how}: {found[-1]:.0f} sentences/s", file=sys.stderr)
    for (world, how, planned), found in zip(plans, rates, strict=True):
        ratios = [rate / first for rate, first in zip(found, rates[0], strict=True)]
        rows.append(
            {
                "workers": world,
                "how": how,
                "batch_size": planned.batch_size,
                "examples_per_second": statistics.median(found),
                "ratio": statistics.median(ratios),
            }
        )
    return rows


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = ["{config}: {precision}, {threads} threads a worker".format(**report)]
    lines += [f"{'workers':>7}  {'':<14}{'batch':>6}{'examples/s':>12}{'gain':>8}"]
    for row in report["rows"]:
        what = f"{row['workers']:>7}  {row['how']:<14}{row['batch_size']:>6}"
        lines += [what + f"{row['examples_per_second']:>12.0f}{row['ratio']:>7.2f}x"]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = parse(words, "Measure workers that train one model.", OPTIONS, config="paper-snli")
    options = arguments.options
    try:
        worlds = [int(part) for part in options.worlds.split(",")]
    except ValueError:
        worlds = []
    require(bool(worlds) and min(worlds) > 0, "worlds", options.worlds, "numbers >= 1 with commas, such as 1,2")
    at_least("threads", options.threads, 1)
    at_least("rounds", options.rounds, 1)
    experiment = arguments.experiment
    rows = measured(arguments, worlds)
    report = {"config": experiment.name, "precision": experiment.precision, "threads": options.threads, "rows": rows}
    if options.json:
        emit_json(report)
    else:
        print(table(report))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
