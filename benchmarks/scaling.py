"""Time of an iteration against the sizes that it depends on, varied one at a time.

    python benchmarks/scaling.py --picture scaling.png
    python benchmarks/scaling.py --vary batch_size,vocabulary --most-seconds 300 --device cuda

Sentences are synthetic and of equal length, with words by Zipf's law. The time is that of ordinary training. An
exponent of 1 means that twice the size takes twice the time; larger exponents are marked. Needs no Ray.
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
from benchmarks import harness
from benchmarks.costs import iteration_parts
from benchmarks.floor import block_times
from pipelines.cli.command_line import Arguments, Option, show
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    import torch

    from arae_core.data.batches import TokenStore

LENGTH = 10
"""Tokens of a sentence, end mark included, if the length is not varied: SNLI's mean."""
SENTENCES = 20_000
ITERATIONS = {"cpu": 5, "cuda": 50}
SUPERLINEAR = 1.05
"""Exponents above this are marked; smaller excesses over 1 are noise."""


@dataclass(frozen=True)
class Axis:
    """A size to vary: its title in tables, the settings that take its value, and its values."""

    title: str
    settings: tuple[str, ...]
    sizes: tuple[int, ...]


AXES = {
    "batch_size": Axis("batch size", ("batch_size",), (64, 128, 256, 512, 1024, 2048, 4096)),
    "hidden": Axis("hidden width", ("encoder.hidden", "decoder.hidden", "code.size"), (128, 256, 512, 1024)),
    "vocabulary": Axis("vocabulary", ("vocabulary.size",), (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)),
    "critic_steps": Axis("critic steps k", ("critic.steps",), (1, 2, 5, 10)),
    "length": Axis("tokens per sentence", (), (8, 16, 32, 64)),
}

OPTIONS = (
    Option("vary", tuple[str, ...], tuple(AXES), "Sizes to vary: " + ", ".join(AXES) + "."),
    Option("most_seconds", float, 60.0, "Sizes that would take longer are skipped."),
    Option("warm_up", int, 2, "Iterations before the timed ones (see --iterations; here 5 by default, on a GPU 50)."),
    Option("rounds", int, 1, "Times that they are timed; the median counts."),
    harness.THREADS,
    Option("picture", Path, None, "File for a picture of all rows."),
)


def varied(experiment: Experiment, name: str, size: int) -> tuple[Experiment, int]:
    """Return the experiment with one of AXES at this size, and the tokens per sentence, end mark included."""
    length = size if name == "length" else LENGTH
    values: dict[str, Any] = {key: (size,) if key.endswith(".hidden") else size for key in AXES[name].settings}
    shortest = min(experiment.data.shortest, length - 1)
    return with_settings(experiment, {"data.shortest": shortest, "longest": length - 1, **values}), length


def sentences(experiment: Experiment, length: int) -> "TokenStore":
    """Return sentences of `length` tokens each, end mark included, whose words follow Zipf's law."""
    import numpy as np

    from arae_core.data.batches import TokenStore
    from benchmarks.examples import SPECIAL_TOKENS, zipf

    count, words = max(SENTENCES, experiment.batch_size), experiment.vocabulary.size - SPECIAL_TOKENS
    drawn = np.random.default_rng(experiment.seed).choice(words, count * (length - 1), p=zipf(words))
    return TokenStore((drawn + SPECIAL_TOKENS).astype(np.int32), np.arange(count + 1, dtype=np.int64) * (length - 1))


def rows(
    experiment: Experiment, name: str, sizes: Sequence[int], most_seconds: float, device: "torch.device", **blocks: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each size. blocks: iterations, warm_up and blocks of `block_times`.

    The time of a size is predicted from its operations and the row before. If it exceeds most_seconds, the size is not
    measured, and its row has "skipped", the predicted seconds.
    """
    iterations = blocks["warm_up"] + blocks["blocks"] * blocks["iterations"]
    before: dict[str, Any] = {}
    for size in sizes:
        changed, length = varied(experiment, name, size)
        parts = iteration_parts(changed, TextSpec(changed.vocabulary.size), length, device.type)
        row: dict[str, Any] = {"vary": name, "size": size, "gflop": sum(part.cost.flops for part in parts) / 1e9}
        seconds = iterations * before["ms"] * row["gflop"] / before["gflop"] / 1000 if before else 0.0
        if seconds > most_seconds:
            yield row | {"skipped": seconds}
            continue
        ms = _ms(changed, length, device, blocks)
        row |= {"ms": ms, "sentences_per_second": 1000 * changed.batch_size / ms}
        row |= {"gflop_per_second": 1000 * row["gflop"] / ms} | (exponents(row, before) if before else {})
        before = row
        yield row


def exponents(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return exponents of time and operations: log(ratio to the row before) / log(ratio of the sizes)."""
    size = math.log(row["size"] / before["size"])
    time, flops = (math.log(row[key] / before[key]) / size for key in ("ms", "gflop"))
    return {"exponent": time, "flop_exponent": flops, "superlinear": time > SUPERLINEAR}


def _ms(experiment: Experiment, length: int, device: "torch.device", blocks: Mapping[str, int]) -> float:
    """Return milliseconds per iteration. The device memory used is free again when this returns."""
    from arae_core.training.state import TrainingState

    state = TrainingState(experiment, TextSpec(experiment.vocabulary.size), device)
    return statistics.median(block_times(state, sentences(experiment, length), **blocks))


def measured(arguments: Arguments) -> dict[str, Any]:
    """Measure all rows; print each to stderr as soon as it is known."""
    device, facts = harness.set_up(arguments)
    options = arguments.options
    experiment = replace(arguments.experiment, precision=facts["precision"])
    iterations = harness.iterations_of(arguments, ITERATIONS[device.type])
    at_least("warm_up", options.warm_up, 1)
    require(options.warm_up <= iterations, "warm_up", options.warm_up, f"<= iterations ({iterations})")
    blocks = {"iterations": iterations, "warm_up": options.warm_up, "blocks": options.rounds}
    found = []
    for name in options.vary:
        for row in rows(experiment, name, AXES[name].sizes, options.most_seconds, device, **blocks):
            found.append(row)
            print(f"{AXES[name].title} {row['size']:,}: {_result(row)}", file=sys.stderr)
    return facts | {"iterations": iterations, "rounds": options.rounds, "rows": found}


def _result(row: Mapping[str, Any]) -> str:
    return f"skipped, would take {row['skipped']:.0f} s" if "skipped" in row else f"{row['ms']:.1f} ms"


def table(report: Mapping[str, Any]) -> str:
    """Format the report, with the exponents of time and of operations side by side."""
    lines = [harness.HEADER.format(**report) + "; {rounds} x {iterations} iterations per row".format(**report)]
    head = f"{'ms':>10}{'sentences/s':>14}{'GFLOP':>10}{'GFLOP/s':>10}{'exponent':>10}{'of GFLOP':>10}"
    for name in dict.fromkeys(row["vary"] for row in report["rows"]):
        lines += ["", f"{AXES[name].title:<20}{head}"]
        for row in (row for row in report["rows"] if row["vary"] == name):
            line = f"{row['size']:<20,}"
            if "skipped" in row:
                lines += [f"{line}{'':>24}{row['gflop']:>10.2f}  {_result(row)}"]
                continue
            line += f"{row['ms']:>10.1f}{row['sentences_per_second']:>14,.0f}{row['gflop']:>10.2f}"
            line += f"{row['gflop_per_second']:>10,.0f}"
            if "exponent" in row:
                line += f"{row['exponent']:>10.2f}{row['flop_exponent']:>10.2f}"
                line += "  superlinear" if row["superlinear"] else ""
            lines.append(line)
    return "\n".join(lines)


def draw(report: Mapping[str, Any], file: Path) -> None:
    """Save a picture with a log-log panel per axis, and a dashed line for proportional growth."""
    from pipelines.evaluation.drawing import new_figure

    names = list(dict.fromkeys(row["vary"] for row in report["rows"]))
    figure = new_figure((3.1 * len(names), 3.4), "{config}: an iteration, {precision}, {device}".format(**report))
    for i, name in enumerate(names):
        first = figure.axes[0] if figure.axes else None
        panel = figure.add_subplot(
            1, len(names), i + 1, xlabel=AXES[name].title, sharey=first, xscale="log", yscale="log"
        )
        _draw_rows(panel, [row for row in report["rows"] if row["vary"] == name and "ms" in row])
    figure.axes[0].set_ylabel("ms per iteration")
    harness.save_picture(figure, file)


def _draw_rows(panel: Any, measured: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    sizes, times = [row["size"] for row in measured], [row["ms"] for row in measured]
    panel.plot(sizes, times, marker="o", markersize=4, label="measured")
    panel.plot(sizes, [times[-1] * size / sizes[-1] for size in sizes], "--", color="gray", label="proportional")
    marked = [row for row in measured if row.get("superlinear")]
    if marked:
        panel.plot([r["size"] for r in marked], [r["ms"] for r in marked], "o", color="tab:red", label="superlinear")
    panel.xaxis.set_major_locator(FixedLocator(sizes))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_formatter(NullFormatter())
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.10g}"))
    panel.tick_params(labelsize=7)
    panel.tick_params("x", rotation=45)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Measure the time of an iteration against each size.", OPTIONS, "paper-snli")
    options = arguments.options
    require(arguments.experiment.kind == "text", "kind", arguments.experiment.kind, "text for this benchmark")
    require(bool(options.vary), "vary", options.vary, "one or more of " + ", ".join(AXES))
    for name in options.vary:
        one_of("vary", name, tuple(AXES))
    above("most_seconds", options.most_seconds, 0.0)
    report = measured(arguments)
    if options.picture:
        draw(report, options.picture)
    show(report, table, options)


if __name__ == "__main__":
    sys.exit(main())
