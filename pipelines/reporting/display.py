"""What the terminal shows: a progress bar, a live table of trials, tables at the end. Elsewhere: plain lines."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from heapq import nsmallest
from itertools import islice
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Figures = Mapping[str, Any]
SHORT = {
    "reconstruction_loss": "loss",
    "distance": "distance",
    "code_norm_real": "|c|",
    "code_norm_fake": "|c~|",
    "examples_per_second": "examples/s",
}
"""Figures of the training itself, and how they are called where room is scarce."""
AT_EVALUATION = (
    "transfer_score",
    "transfer_accuracy",
    "transfer_self_bleu",
    "generation_perplexity",
    "forward_perplexity",
    "reverse_perplexity",
    "generation_f1",
    "precision",
    "coverage",
    "valid",
    "distinct",
    "novel",
    "validation_nll",
    "validation_accuracy",
)
"""Figures of an evaluation, the most telling first."""
MOST = 20
"""Trials in a table: more are not read, and drawing all of hundreds in every report would take ever longer."""


def make_console() -> Console:
    """Where everything is printed; wide where it is a file, so that tables are not cut."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(width=240, highlight=False)


def number(value: object) -> str:
    """A figure in few characters."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def listed(figures: Figures, names: Iterable[str]) -> str:
    """ "loss 1.2, distance 0.03": those of the figures that are there."""
    return ", ".join(f"{SHORT.get(n, n.replace('_', ' '))} {number(figures[n])}" for n in names if n in figures)


class TrainingDisplay(AbstractContextManager["TrainingDisplay"]):
    """One training as it goes: a bar on a terminal, elsewhere a line for each evaluation."""

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.evaluated = console, -1
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=None, figures="starting the workers")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.bar.stop()

    def show(self, figures: Figures) -> None:
        """Take in a worker's newest figures; empty before there are any."""
        if not figures:
            return
        self.bar.update(self.task, total=figures["end"], completed=figures["step"], figures=listed(figures, SHORT))
        evaluation = figures.get("evaluation") or {}
        if evaluation.get("step", -1) > self.evaluated and "diverged" not in evaluation:
            self.evaluated = evaluation["step"]
            self.console.print(
                f"step {evaluation['step']}/{evaluation['end']}: {listed(evaluation, (*SHORT, *AT_EVALUATION))}",
                soft_wrap=True,
            )


class CellsDisplay(AbstractContextManager["CellsDisplay"]):
    """A table of classifiers as it fills: a line for each that is done, and on a terminal a bar."""

    def __init__(self, console: Console, name: str, cells: int) -> None:
        self.console, self.cells, self.done = console, cells, 0
        columns = (TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=1.0)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.bar.stop()

    def started(self, method: str, seed: int) -> None:
        """Say that the classifiers of a method and a seed have what they start from."""
        if method != "supervised":
            self.console.print(f"autoencoder of {method}, seed {seed}: ready")

    def ended(self, row: Figures) -> None:
        """Take in a finished classifier."""
        self.done += 1
        what = row.get("diverged") or (
            f"test {row['test']:.1f} %, validation {row['validation']:.1f} %, best at step {row['step']}"
        )
        title = f"{row['method']}, {row['labels']:,} labels, seed {row['seed']}"
        self.console.print(f"{self.done} of {self.cells}: {title}: {what}", soft_wrap=True)

    def progress(self, share: float) -> None:
        """The share of all iterations that is done."""
        self.bar.update(self.task, completed=share)


class TrialsDisplay(AbstractContextManager["TrialsDisplay"]):
    """A sweep as it goes: a live table on a terminal, elsewhere a line for each report."""

    def __init__(self, console: Console, metric: str) -> None:
        self.console, self.metric = console, metric
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
            self.live.update("the table of trials comes with their first evaluation", refresh=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, rows: Sequence[Figures], news: Figures) -> None:
        """rows: one a trial, as `leaderboard` takes them. news: the row of the trial that has just reported."""
        if self.live:
            most = min(MOST, max(5, self.console.height - 9))  # what does not fit is cut, with the last line
            shown = foremost(rows, self.metric, most)
            table = leaderboard(shown, self.metric, "trials")
            if len(rows) > len(shown):
                left = Counter(str(row["state"]) for row in rows) - Counter(str(row["state"]) for row in shown)
                states = ", ".join(f"{count} {state}" for state, count in left.items())
                table.caption = f"and {len(rows) - len(shown)} more: {states}"
            self.live.update(table, refresh=True)
        else:
            what = news.get("diverged") or listed(
                news, (self.metric, *SHORT, *(name for name in AT_EVALUATION if name != self.metric))
            )
            self.console.print(f"trial {short(news)}, step {news['step']}/{news['end']}: {what}", soft_wrap=True)


def foremost(rows: Sequence[Figures], metric: str, most: int) -> Sequence[Figures]:
    """All rows where there are at most `most`; else running trials, up to half of them, and the best of the others."""
    from arae_core.evaluation.generation import SELECTION

    if len(rows) <= most:
        return rows
    sign = 1 if dict(SELECTION.values())[metric] == "min" else -1
    running = list(islice((row for row in rows if row["state"] == "running"), most // 2))
    taken = {row["trial"] for row in running}
    others = (row for row in rows if row["trial"] not in taken)
    return running + nsmallest(most - len(running), others, key=lambda row: sign * row.get(metric, sign * math.inf))


def leaderboard(rows: Sequence[Figures], metric: str, title: str) -> Table:
    """The first trials as a table. A row has "trial", "state", "step", "end" and an evaluation's figures by name."""
    shown = rows[:MOST]
    figures = [name for name in AT_EVALUATION if name != metric and any(name in row for row in shown)]
    figures = [metric, *figures][:7]
    table = Table(title=title, title_justify="left", caption_justify="left")
    if len(rows) > MOST:
        table.caption = f"and {len(rows) - MOST} more in leaderboard.json"
    for column in ("trial", "state", "step", *(name.replace("_", " ") for name in figures)):
        table.add_column(column)
    for row in shown:
        step = f"{row['step']}/{row['end']}" if "step" in row else ""
        table.add_row(short(row), str(row["state"]), step, *(number(row.get(name)) for name in figures))
    return table


def settings_table(rows: Sequence[Figures], searched: Sequence[str], most: int = 8) -> Table:
    """What the first trials of a leaderboard were trained with: a column each."""
    table = Table("setting", *(short(row) for row in rows[:most]), title="their settings", title_justify="left")
    for name in searched:
        table.add_row(name, *(number(row.get(name)) for row in rows[:most]))
    return table


def short(row: Figures) -> str:
    """The trial's number in the sweep: the part of its id that differs."""
    return str(row["trial"]).rsplit("_", 1)[-1]


def rows_table(rows: Sequence[Figures], title: str) -> Table:
    """Any rows with figures by name, a line each; a figure that a row does not have stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for name in names:  # two models' names may differ in their last letter
        table.add_column(name.replace("_", " "), overflow="fold" if name == "model" else "ellipsis")
    for row in rows:
        table.add_row(*(number(row.get(name)) for name in names))
    return table


def metrics_table(metrics: Figures, title: str) -> Table:
    """The figures of an evaluation, one a line."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name in (*AT_EVALUATION, "mean_length", *SHORT):
        if name in metrics:
            table.add_row(name.replace("_", " "), number(metrics[name]))
    return table


def drawn(image: Any) -> str:
    """A binary image, uint8[H, W], in half blocks: two rows of pixels a line."""
    rows = [*image.tolist(), *([[0] * image.shape[1]] if len(image) % 2 else [])]
    blocks = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(blocks[pair] for pair in zip(*pair_of_rows, strict=True)) for pair_of_rows in pairs)


def side_by_side(images: Iterable[Any]) -> str:
    """Several images in a row."""
    lines = [drawn(image).splitlines() for image in images]
    return "\n".join("  ".join(parts) for parts in zip(*lines, strict=True))
