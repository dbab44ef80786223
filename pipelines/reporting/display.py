"""The terminal display: a progress bar, a live table of trials, tables at the end; plain lines if not a terminal."""

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

from pipelines.evaluation.drawing import image_text

Values = Mapping[str, Any]
TRAINING_METRICS = {
    "reconstruction_loss": "loss",
    "distance": "distance",
    "code_norm_real": "|c|",
    "code_norm_fake": "|c~|",
    "examples_per_second": "examples/s",
}
"""Metrics of training, with their short names."""
EVALUATION_METRICS = (
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
"""Metrics of an evaluation, the most important first."""
MAX_ROWS = 20
"""Maximum number of trials in a table. Drawing hundreds at every report would be slow."""


def make_console() -> Console:
    """Return the console for all output. A file gets wide lines, so that tables are not cut."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(width=240, highlight=False)


def format_value(value: object) -> str:
    """Return a value with four significant digits, or its text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def metrics_line(figures: Values, names: Iterable[str]) -> str:
    """Return the metrics that exist among `names` as text, such as "loss 1.2, distance 0.03"."""
    return ", ".join(
        f"{TRAINING_METRICS.get(n, n.replace('_', ' '))} {format_value(figures[n])}" for n in names if n in figures
    )


class TrainingDisplay(AbstractContextManager["TrainingDisplay"]):
    """Display of a training: a progress bar on a terminal, else a line for each evaluation."""

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

    def show(self, figures: Values) -> None:
        """Show the newest metrics of a worker; {} before there are any."""
        if not figures:
            return
        self.bar.update(
            self.task, total=figures["end"], completed=figures["step"], figures=metrics_line(figures, TRAINING_METRICS)
        )
        evaluation = figures.get("evaluation") or {}
        if evaluation.get("step", -1) > self.evaluated and "diverged" not in evaluation:
            self.evaluated = evaluation["step"]
            line = metrics_line(evaluation, (*TRAINING_METRICS, *EVALUATION_METRICS))
            self.console.print(f"step {evaluation['step']}/{evaluation['end']}: {line}", soft_wrap=True)


class ClassifiersDisplay(AbstractContextManager["ClassifiersDisplay"]):
    """Display of a table of classifiers: a line for each finished one, and a progress bar on a terminal."""

    def __init__(self, console: Console, name: str, classifiers: int) -> None:
        self.console, self.classifiers, self.done = console, classifiers, 0
        columns = (TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=1.0)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.bar.stop()

    def started(self, method: str, seed: int) -> None:
        """Print that the autoencoder of a method and a seed is trained."""
        if method != "supervised":
            self.console.print(f"autoencoder of {method}, seed {seed}: ready")

    def ended(self, row: Values) -> None:
        """Print the row of a finished classifier."""
        self.done += 1
        result = row.get("diverged") or (
            f"test {row['test']:.1f} %, validation {row['validation']:.1f} %, best at step {row['step']}"
        )
        title = f"{row['method']}, {row['labels']:,} labels, seed {row['seed']}"
        self.console.print(f"{self.done} of {self.classifiers}: {title}: {result}", soft_wrap=True)

    def progress(self, share: float) -> None:
        """Show the share of all iterations that is done."""
        self.bar.update(self.task, completed=share)


class TrialsDisplay(AbstractContextManager["TrialsDisplay"]):
    """Display of a sweep: a live table on a terminal, else a line for each report."""

    def __init__(self, console: Console, metric: str) -> None:
        self.console, self.metric = console, metric
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
            self.live.update("waiting for the first evaluation of a trial", refresh=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, rows: Sequence[Values], news: Values) -> None:
        """Show the rows of all trials (see `leaderboard`). news: the row of the trial that has just reported."""
        if self.live:
            most = min(MAX_ROWS, max(5, self.console.height - 9))  # rich would cut off a longer table, and its caption
            shown = rows_to_show(rows, self.metric, most)
            table = leaderboard(shown, self.metric, "trials")
            if len(rows) > len(shown):
                left = Counter(str(row["state"]) for row in rows) - Counter(str(row["state"]) for row in shown)
                states = ", ".join(f"{count} {state}" for state, count in left.items())
                table.caption = f"and {len(rows) - len(shown)} more: {states}"
            self.live.update(table, refresh=True)
        else:
            names = dict.fromkeys((self.metric, *TRAINING_METRICS, *EVALUATION_METRICS))
            line = news.get("diverged") or metrics_line(news, names)
            self.console.print(f"trial {trial_number(news)}, step {news['step']}/{news['end']}: {line}", soft_wrap=True)


def rows_to_show(rows: Sequence[Values], metric: str, most: int) -> Sequence[Values]:
    """Return at most `most` rows: running trials, up to half of them, and the best of the others."""
    from arae_core.evaluation.generation import SELECTION

    if len(rows) <= most:
        return rows
    sign = 1 if dict(SELECTION.values())[metric] == "min" else -1
    running = list(islice((row for row in rows if row["state"] == "running"), most // 2))
    taken = {row["trial"] for row in running}
    others = (row for row in rows if row["trial"] not in taken)
    return running + nsmallest(most - len(running), others, key=lambda row: sign * row.get(metric, sign * math.inf))


def leaderboard(rows: Sequence[Values], metric: str, title: str) -> Table:
    """Return a table of the first trials. A row has "trial", "state", "step", "end" and metrics by name."""
    shown = rows[:MAX_ROWS]
    figures = [name for name in EVALUATION_METRICS if name != metric and any(name in row for row in shown)]
    figures = [metric, *figures][:7]
    table = Table(title=title, title_justify="left", caption_justify="left")
    if len(rows) > MAX_ROWS:
        table.caption = f"and {len(rows) - MAX_ROWS} more in leaderboard.json"
    for column in ("trial", "state", "step", *(name.replace("_", " ") for name in figures)):
        table.add_column(column)
    for row in shown:
        step = f"{row['step']}/{row['end']}" if "step" in row else ""
        table.add_row(trial_number(row), str(row["state"]), step, *(format_value(row.get(name)) for name in figures))
    return table


def settings_table(rows: Sequence[Values], searched: Sequence[str], most: int = 8) -> Table:
    """Return a table of the searched settings, with a column for each of the first trials."""
    table = Table(
        "setting",
        *(trial_number(row) for row in rows[:most]),
        title="settings of the best trials",
        title_justify="left",
    )
    for name in searched:
        table.add_row(name, *(format_value(row.get(name)) for row in rows[:most]))
    return table


def trial_number(row: Values) -> str:
    """Return the last part of a trial's id, which differs from trial to trial."""
    return str(row["trial"]).rsplit("_", 1)[-1]


def rows_table(rows: Sequence[Values], title: str) -> Table:
    """Return a table of rows that hold values by name. A value that a row lacks stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for name in names:  # the names of two models may differ in their last letters only
        table.add_column(name.replace("_", " "), overflow="fold" if name == "model" else "ellipsis")
    for row in rows:
        table.add_row(*(format_value(row.get(name)) for name in names))
    return table


def metrics_table(metrics: Values, title: str) -> Table:
    """Return a table of an evaluation's metrics, one in each line."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name in (*EVALUATION_METRICS, "mean_length", *TRAINING_METRICS):
        if name in metrics:
            table.add_row(name.replace("_", " "), format_value(metrics[name]))
    return table


def side_by_side(images: Iterable[Any]) -> str:
    """Return binary images uint8[H, W] as text, next to each other."""
    lines = [image_text(image).splitlines() for image in images]
    return "\n".join("  ".join(parts) for parts in zip(*lines, strict=True))
