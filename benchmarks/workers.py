"""Workers that train one model, each on a core of its own, against one worker on one core.

    python benchmarks/workers.py --config paper-snli --worlds 1,2 --rounds 3

Processes on this machine, gradients by gloo, without Ray. `same batch`: the batch is split between the workers, who
compute what one does, sooner. `a batch each`: it grows with their number. Of an iteration's milliseconds, `exchange`
are those of adding gradients over the workers, and `waiting` those of it in barriers and all-reduces.
"""

import json
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

from arae_core.settings.checks import at_least, require
from pipelines.cli.command_line import Arguments, Option, parse, run, show
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

    from arae_core.runtime.parallel import Parallel
    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples
    from benchmarks.parts import watched

    torch.set_num_threads(threads)
    store, shape, _ = examples(experiment, data)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    state = TrainingState(experiment, shape)
    until = WARMUP + iterations
    exchanged = ((Parallel, "sum_gradients", "exchange"), (dist, "barrier", "waiting"), (dist, "all_reduce", "waiting"))
    with watched(state.device, exchanged) as watch:
        for report in train(state, store, Parallel.from_process_group(), until=until, every=(WARMUP, until)):
            if report.step == WARMUP:
                watch.seconds.clear()
    if world > 1:
        dist.destroy_process_group()
    if rank == 0:
        waiting, adding = (1000 * watch.seconds[part] / iterations for part in ("waiting", "exchange"))
        found = {"ms": report.scalars["ms_per_iteration"], "exchange": waiting + adding, "waiting": waiting}
        Path(folder, "found.json").write_text(json.dumps(found))


def timed(world: int, experiment: Experiment, arguments: Arguments) -> dict[str, float]:
    """Milliseconds an iteration of `world` workers, and what of it the first one spends on the others."""
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
        found: dict[str, float] = json.loads(Path(folder, "found.json").read_text())
        return found


def measured(arguments: Arguments, worlds: Sequence[int]) -> list[dict[str, Any]]:
    """Every number of workers in turn, and what it gains over the first; medians over the turns."""
    experiment, rows = arguments.experiment, []
    plans = [(world, "same batch", experiment) for world in worlds]
    plans += [
        (world, "a batch each", replace(experiment, batch_size=world * experiment.batch_size))
        for world in worlds
        if world > 1
    ]
    found: list[list[dict[str, float]]] = [[] for _ in plans]
    for turn in range(arguments.options.rounds):
        for (world, how, planned), turns in zip(plans, found, strict=True):
            took = timed(world, planned, arguments)
            turns.append(took | {"rate": 1000 * planned.batch_size / took["ms"]})
            print(f"round {turn + 1}: {world} workers, {how}: {turns[-1]['rate']:.0f} sentences/s", file=sys.stderr)
    for (world, how, planned), turns in zip(plans, found, strict=True):
        ratios = [each["rate"] / first["rate"] for each, first in zip(turns, found[0], strict=True)]
        rows.append(
            {
                "workers": world,
                "how": how,
                "batch_size": planned.batch_size,
                "examples_per_second": statistics.median(each["rate"] for each in turns),
                "ratio": statistics.median(ratios),
                **{name: statistics.median(each[name] for each in turns) for name in ("ms", "exchange", "waiting")},
            }
        )
    return rows


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = ["{config}: {precision}, {threads} threads a worker".format(**report)]
    lines += [
        f"{'workers':>7}  {'':<14}{'batch':>6}{'examples/s':>12}{'gain':>8}{'ms':>8}{'exchange':>10}{'waiting':>9}"
    ]
    for row in report["rows"]:
        what = f"{row['workers']:>7}  {row['how']:<14}{row['batch_size']:>6}"
        times = "{ms:>8.1f}{exchange:>10.1f}{waiting:>9.1f}".format(**row)
        lines += [what + f"{row['examples_per_second']:>12.0f}{row['ratio']:>7.2f}x{times}"]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    from arae_core.runtime.precision import precision_on

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
    report = {
        "config": experiment.name,
        "precision": precision_on("cpu", experiment),
        "threads": options.threads,
        "rows": rows,
    }
    show(report, table, options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
