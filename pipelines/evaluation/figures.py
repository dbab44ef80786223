"""The pictures of the experiments."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arae_core.evaluation.latent import WITHIN
from arae_core.evaluation.robustness import SWAPS
from pipelines.experiment.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, *, log: bool = False) -> "Figure":
    """A group of bars for each row, published ones pale."""
    figure = new_figure((8, 0.5 + 0.5 * len(rows)), title)
    axis = figure.add_subplot()
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        for y, row in enumerate(rows):
            if name in row:
                pale = str(row["model"]).startswith("published")
                axis.barh(y + i * height, row[name], height, color=f"C{i}", alpha=0.4 if pale else 1.0)
                axis.text(row[name], y + i * height, f" {row[name]:.1f}", va="center", fontsize=7)
        axis.barh(0, 0, color=f"C{i}", label=name.replace("_", " "))
    axis.set_yticks([y + 0.4 - height / 2 for y in range(len(rows))], [row["model"] for row in rows], fontsize=8)
    axis.invert_yaxis()
    if log:
        axis.set_xscale("log")
    axis.legend(fontsize=8)
    return figure


def swaps_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    figure = new_figure((7, 4.5), "nats of a sentence from its code after k swaps of words: flatter is more robust")
    axis = figure.add_subplot()
    for row in rows:
        style = "--" if row["model"].startswith("published") else "-"
        axis.plot(SWAPS, [row[f"k={k}"] for k in SWAPS], style, marker="o", label=row["model"])
    axis.set_xlabel("k, swaps of two words")
    axis.set_xticks(SWAPS)
    axis.set_ylabel("nats a sentence")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def latent_figure(curves: Mapping[str, Mapping[str, Any]], near: Mapping[str, Any]) -> "Figure":
    figure = new_figure((13, 4), "the code space: c encoded (solid), c~ generated (dashed)")
    for i, what in enumerate(("norm", "variance"), start=1):
        axis = figure.add_subplot(1, 3, i)
        for color, (name, found) in enumerate(curves.items()):
            for whose, style in (("real", "-"), ("fake", "--")):
                if points := found.get(f"probe_{what}_{whose}"):
                    label = name if whose == "real" else None
                    axis.plot(*zip(*points, strict=True), style, color=f"C{color}", label=label)
        axis.set_title("mean length" if what == "norm" else "sum of the variances of all dimensions", fontsize=10)
        axis.set_xlabel("iteration", fontsize=8)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=7)
    axis = figure.add_subplot(1, 3, 3)
    for color, (name, (neighbours, random)) in enumerate(near.items()):
        bins = np.linspace(-1, 1, 41).tolist()
        axis.hist(neighbours, bins, density=True, histtype="step", color=f"C{color}", label=f"{name}, neighbours")
        axis.hist(random, bins, density=True, histtype="step", color=f"C{color}", linestyle="--", label="random pairs")
    axis.set_xticks((-1, -0.5, 0, 0.5, 1))
    axis.set_title(f"cosine of codes: within {WITHIN} edits, and at random", fontsize=10)
    if near:
        axis.legend(fontsize=7)
    return figure


def accuracy_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Accuracy against the number of labels: a line for each method, its spread over seeds as bars."""
    figure = new_figure((8, 4.5), "accuracy on test by the number of labelled examples")
    axis = figure.add_subplot()
    for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        found = sorted((row for row in rows if row["method"] == method), key=lambda row: row["labels"])
        labels, test = [row["labels"] for row in found], [row["test"] for row in found]
        if str(method).startswith("published"):
            axis.plot(labels, test, "--", marker="x", alpha=0.5, label=method)
        else:
            spread = [row.get("spread") or 0.0 for row in found]
            axis.errorbar(labels, test, spread, marker="o", capsize=3, color=f"C{i}", label=method)
    axis.set_xscale("log")
    counts = sorted({row["labels"] for row in rows})
    axis.set_xticks(counts, [f"{count:,}" for count in counts], fontsize=8)
    axis.minorticks_off()
    axis.set_xlabel("labelled examples")
    axis.set_ylabel("accuracy, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure
