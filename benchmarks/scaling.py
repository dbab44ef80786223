"""What an iteration costs against the sizes that it depends on, each varied alone.

    python benchmarks/scaling.py --picture scaling.png
    python benchmarks/scaling.py --vary batch_size,vocabulary --most-seconds 300 --device cuda

Sentences are synthetic, all of one length, their words by Zipf's law. What is timed is training as users run it. An
exponent of 1 says that twice the size takes twice the time; what is above that is marked. Needs no Ray.
"""

import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.data.data_spec import TextSpec
from arae_core.settings.checks import above, at_least, one_of, require
from arae_core.settings.tree import with_settings
from benchmarks.costs import iteration_parts
from benchmarks.floor import block_times, chosen_device
from pipelines.cli.command_line import Arguments, Option, parse, run, show
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    import torch

    from arae_core.data.batches import TokenStore

LENGTH = 10
"""Tokens of a sentence, end mark counted, where the length is not what varies: SNLI's mean."""
MARKS = 4
SENTENCES = 20_000
ITERATIONS = {"cpu": 5, "cuda": 50}
SUPERLINEAR = 1.05
"""Exponents above this are marked; those between it and 1 are noise."""


@dataclass(frozen=True)
class Axis:
    """What is varied: its name in tables, the settings that take its value, and its sizes."""

    title: str
    settings: tuple[str, ...]
    sizes: tuple[int, ...]


AXES = {
    "batch_size": Axis("batch size", ("batch_size",), (64, 128, 256, 512, 1024, 2048, 4096)),
    "hidden": Axis("hidden width", ("encoder.hidden", "decoder.hidden", "code.size"), (128, 256, 512, 1024)),
    "vocabulary": Axis("vocabulary", ("vocabulary.size",), (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)),
    "critic_steps": Axis("critic steps k", ("critic.steps",), (1, 2, 5, 10)),
    "length": Axis("tokens a sentence", (), (8, 16, 32, 64)),
}

OPTIONS = (
    Option("vary", tuple[str, ...], tuple(AXES), "What is varied: " + ", ".join(AXES) + "."),
    Option("most_seconds", float, 60.0, "A row that would take longer is skipped."),
    Option("warm_up", int, 2, "Iterations before those that are timed (of --iterations, default 5, on a GPU 50)."),
    Option("rounds", int, 1, "Times that they are timed; the median counts."),
    Option("threads", int, 2, "Threads that torch may use."),
    Option("picture", Path, None, "File for a picture of all rows."),
)


def varied(experiment: Experiment, name: str, size: int) -> tuple[Experiment, int]:
    """The experiment with one of AXES at this size, and the tokens of its sentences, end mark counted."""
    length = size if name == "length" else LENGTH
    values: dict[str, Any] = {key: (size,) if key.endswith(".hidden") else size for key in AXES[name].settings}
    shortest = min(experiment.data.shortest, length - 1)
    return with_settings(experiment, {"data.shortest": shortest, "longest": length - 1, **values}), length


def sentences(experiment: Experiment, length: int) -> "TokenStore":
    """Sentences of `length` tokens each, end mark counted, whose words follow Zipf's law."""
    import numpy as np

    from arae_core.data.batches import TokenStore

    count, words = max(SENTENCES, experiment.batch_size), experiment.vocabulary.size - MARKS
    frequency = 1 / np.arange(1, words + 1)
    drawn = np.random.default_rng(experiment.seed).choice(words, count * (length - 1), p=frequency / frequency.sum())
    return TokenStore((drawn + MARKS).astype(np.int32), np.arange(count + 1, dtype=np.int64) * (length - 1))


def rows(
    experiment: Experiment, name: str, sizes: Sequence[int], most_seconds: float, device: "torch.device", **how: int
) -> Iterator[dict[str, Any]]:
    """A row for each size. how: iterations, warm_up and blocks of `block_times`.

    Those that would take longer than most_seconds, by their operations and the row before, have "skipped", the seconds,
    in place of times.
    """
    iterations = how["warm_up"] + how["blocks"] * how["iterations"]
    before: dict[str, Any] = {}
    for size in sizes:
        changed, length = varied(experiment, name, size)
        parts = iteration_parts(changed, TextSpec(changed.vocabulary.size), length, device.type)
        row: dict[str, Any] = {"vary": name, "size": size, "gflop": sum(part.cost.flops for part in parts) / 1e9}
        seconds = iterations * before["ms"] * row["gflop"] / before["gflop"] / 1000 if before else 0.0
        if seconds > most_seconds:
            yield row | {"skipped": seconds}
            continue
        ms = _timed(changed, length, device, how)
        row |= {"ms": ms, "sentences_per_second": 1000 * changed.batch_size / ms}
        row |= {"gflop_per_second": 1000 * row["gflop"] / ms} | (exponents(row, before) if before else {})
        before = row
        yield row


def exponents(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Of times and of operations: log of the ratio to the row before / log of the sizes' ratio."""
    size = math.log(row["size"] / before["size"])
    time, flops = (math.log(row[key] / before[key]) / size for key in ("ms", "gflop"))
    return {"exponent": time, "flop_exponent": flops, "superlinear": time > SUPERLINEAR}


def _timed(experiment: Experiment, length: int, device: "torch.device", how: Mapping[str, int]) -> float:
    """Milliseconds an iteration. What it takes of the device's memory is free again afterwards."""
    from arae_core.training.state import TrainingState

    state = TrainingState(experiment, TextSpec(experiment.vocabulary.size), device)
    return statistics.median(block_times(state, sentences(experiment, length), **how))


def measured(arguments: Arguments) -> dict[str, Any]:
    """All rows, said on stderr as they come."""
    import torch

    from arae_core.runtime.precision import precision_on

    experiment, options = arguments.experiment, arguments.options
    torch.set_num_threads(options.threads)
    device = chosen_device(experiment)
    experiment = replace(experiment, precision=precision_on(device, experiment))
    iterations = arguments.given.get("iterations") or ITERATIONS[device.type]
    at_least("warm_up", options.warm_up, 1)
    require(options.warm_up <= iterations, "warm_up", options.warm_up, f"<= iterations ({iterations})")
    how = {"iterations": iterations, "warm_up": options.warm_up, "blocks": options.rounds}
    found = []
    for name in options.vary:
        for row in rows(experiment, name, AXES[name].sizes, options.most_seconds, device, **how):
            found.append(row)
            print(f"{AXES[name].title} {row['size']:,}: {_said(row)}", file=sys.stderr)
    return {
        "config": experiment.name,
        "precision": experiment.precision,
        "threads": options.threads,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "iterations": iterations,
        "rounds": options.rounds,
        "rows": found,
    }


def _said(row: Mapping[str, Any]) -> str:
    return f"skipped, would take {row['skipped']:.0f} s" if "skipped" in row else f"{row['ms']:.1f} ms"


def table(report: Mapping[str, Any]) -> str:
    """The report to read: exponents of times and, beside them, of operations."""
    lines = [
        "{config}, each size alone: {precision}, {device}, threads {threads}, torch {torch}; {rounds} x {iterations} "
        "iterations a row".format(**report)
    ]
    head = f"{'ms':>10}{'sentences/s':>14}{'GFLOP':>10}{'GFLOP/s':>10}{'exponent':>10}{'of GFLOP':>10}"
    for name in dict.fromkeys(row["vary"] for row in report["rows"]):
        lines += ["", f"{AXES[name].title:<18}{head}"]
        for row in (row for row in report["rows"] if row["vary"] == name):
            line = f"{row['size']:<18,}"
            if "skipped" in row:
                lines += [f"{line}{'':>24}{row['gflop']:>10.2f}  {_said(row)}"]
                continue
            line += f"{row['ms']:>10.1f}{row['sentences_per_second']:>14,.0f}{row['gflop']:>10.2f}"
            line += f"{row['gflop_per_second']:>10,.0f}"
            if "exponent" in row:
                line += f"{row['exponent']:>10.2f}{row['flop_exponent']:>10.2f}"
                line += "  superlinear" if row["superlinear"] else ""
            lines.append(line)
    return "\n".join(lines)


def draw(report: Mapping[str, Any], file: Path) -> None:
    """A panel for each size that was varied, both axes logarithmic, and what would be in proportion to it, dashed."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    from pipelines.evaluation.drawing import new_figure

    names = list(dict.fromkeys(row["vary"] for row in report["rows"]))
    figure = new_figure((3.1 * len(names), 3.4), "{config}: an iteration, {precision}, {device}".format(**report))
    for i, name in enumerate(names):
        there = [row for row in report["rows"] if row["vary"] == name and "ms" in row]
        sizes, times = [row["size"] for row in there], [row["ms"] for row in there]
        first = figure.axes[0] if figure.axes else None
        axis = figure.add_subplot(
            1, len(names), i + 1, xlabel=AXES[name].title, sharey=first, xscale="log", yscale="log"
        )
        axis.plot(sizes, times, marker="o", markersize=4, label="measured")
        axis.plot(sizes, [times[-1] * size / sizes[-1] for size in sizes], "--", color="gray", label="proportional")
        over = [row for row in there if row.get("superlinear")]
        if over:
            axis.plot([r["size"] for r in over], [r["ms"] for r in over], "o", color="tab:red", label="superlinear")
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        for numbers in (axis.xaxis, axis.yaxis):
            numbers.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.10g}"))
        axis.tick_params(labelsize=7)
        axis.tick_params("x", rotation=45)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.axes[0].set_ylabel("ms an iteration")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = parse(words, "Measure what an iteration costs against each size.", OPTIONS, config="paper-snli")
    options = arguments.options
    require(arguments.experiment.kind == "text", "kind", arguments.experiment.kind, "text here")
    require(bool(options.vary), "vary", options.vary, "one or more of " + ", ".join(AXES))
    for name in options.vary:
        one_of("vary", name, tuple(AXES))
    above("most_seconds", options.most_seconds, 0.0)
    at_least("rounds", options.rounds, 1)
    at_least("threads", options.threads, 1)
    report = measured(arguments)
    if options.picture:
        draw(report, options.picture)
    show(report, table, options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
