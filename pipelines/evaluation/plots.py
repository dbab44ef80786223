"""Figures of the experiments."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arae_core.evaluation.latent import WITHIN
from arae_core.evaluation.robustness import SWAPS
from pipelines.evaluation.drawing import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL_COLOURS = ("tab:red", "tab:orange", "tab:purple", "tab:brown", "tab:pink")
"""Colours of the evaluated models; outputs of other systems have another one."""


def perplexity_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Plot forward and reverse perplexity of each row on a logarithmic axis; published values are pale."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    figure = new_figure((8, 1.2 + 0.42 * len(rows)), "perplexity by a language model (best: that of real sentences)")
    axis = figure.add_subplot()
    for color, (name, marker, meaning) in enumerate(
        (("forward", "o", "forward: fluency"), ("reverse", "s", "reverse: coverage of real text"))
    ):
        for y, row in enumerate(rows):
            if name in row:
                alpha = 0.4 if str(row["model"]).startswith("published") else 1.0
                axis.plot(row[name], y, marker, color=f"C{color}", alpha=alpha)
                at, value = (row[name], y), f"{row[name]:.1f}"
                axis.annotate(value, at, (0, 5), textcoords="offset points", ha="center", fontsize=7)
        axis.plot([], [], marker, color=f"C{color}", label=meaning)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.08)
    axis.set_yticks(range(len(rows)), [row["model"] for row in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.7)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def transfer_figure(rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> "Figure":
    """Plot accuracy against BLEU with the source, one point per row; `models` are the names of the evaluated models.

    A second panel shows BLEU with human rewritings, if any row has it.
    """
    labels = {"self_bleu": "BLEU with the source, %", "bleu": "BLEU with human rewritings, %"}
    panels = [name for name in labels if any(name in row for row in rows)]
    figure = new_figure((5.2 * len(panels) + 3.4, 5), "attribute transfer: up and to the right is better")
    for i, name in enumerate(panels, start=1):
        axis = figure.add_subplot(1, len(panels), i)
        _equal_means(axis)
        for number, row in enumerate(rows, start=1):
            if name in row:
                at, style = (row[name], row["accuracy"]), _style(row["model"], models)
                axis.plot(*at, "o", markersize=13, label=f"{number}  {row['model']}", clip_on=False, **style)
                axis.annotate(str(number), at, ha="center", va="center", fontsize=7, color="white", zorder=4)
        axis.set_xlabel(labels[name])
        axis.set_ylabel("accuracy, %" if i == 1 else "")
    points = figure.axes[0].get_legend_handles_labels()
    figure.legend(*points, loc="outside right center", fontsize=8, markerscale=0.5, frameon=False)
    return figure


def _equal_means(axis: "Axes") -> None:
    """Draw curves of equal geometric mean of both axes."""
    x = np.linspace(0.5, 105, 400)
    for mean in (20, 40, 60, 80):
        axis.plot(x, mean**2 / x, color="0.8", linewidth=0.8, zorder=0)
        axis.text(mean**2 / 104, 104, f" mean {mean}", fontsize=7, color="0.5", va="top")
    axis.set_xlim(0, 105)
    axis.set_ylim(0, 105)


def _style(model: str, models: Sequence[str]) -> dict[str, Any]:
    if model in models:
        return {"color": MODEL_COLOURS[list(models).index(model) % len(MODEL_COLOURS)], "zorder": 3}
    return {"color": "0.65" if model.startswith("published") else "tab:blue", "zorder": 2}


def swaps_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Plot the reconstruction loss against the number of word swaps, one line per row."""
    figure = new_figure((7, 4.5), "reconstruction loss after k word swaps: flatter is more robust")
    axis = figure.add_subplot()
    for row in rows:
        style = "--" if row["model"].startswith("published") else "-"
        axis.plot(SWAPS, [row[f"k={k}"] for k in SWAPS], style, marker="o", label=row["model"])
    axis.set_xlabel("k, number of word swaps")
    axis.set_xticks(SWAPS)
    axis.set_ylabel("nats per sentence")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def latent_figure(curves: Mapping[str, Mapping[str, Any]], near: Mapping[str, Any]) -> "Figure":
    """Plot norms and variances of codes over training, if known, and cosines of neighbours and of random pairs.

    curves: model -> metric -> [(step, value)]. near: model -> (cosines of neighbours, cosines of random pairs).
    """
    titles = {"norm": "mean norm", "variance": "sum of the variances of all dimensions"}
    drawn = [what for what in titles if any(found.get(f"probe_{what}_real") for found in curves.values())]
    panels = len(drawn) + bool(near)
    figure = new_figure((max(6, 4.3 * panels), 4), "code space: encoded c (solid), generated c~ (dashed)")
    for i, what in enumerate(drawn, start=1):
        axis = figure.add_subplot(1, panels, i)
        for color, (name, found) in enumerate(curves.items()):
            for whose, style in (("real", "-"), ("fake", "--")):
                if points := found.get(f"probe_{what}_{whose}"):
                    label = name if whose == "real" else None
                    marks: dict[str, Any] = {"marker": "o", "markersize": 3} if len(points) < 15 else {}
                    axis.plot(*zip(*points, strict=True), style, color=f"C{color}", label=label, **marks)
        axis.set_title(titles[what], fontsize=10)
        axis.set_xlabel("iteration", fontsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    if near:
        axis = figure.add_subplot(1, panels, panels)
        _draw_cosines(axis, near)
    return figure


def _draw_cosines(axis: "Axes", near: Mapping[str, Any]) -> None:
    """Draw a histogram of the cosines of each model."""
    bins = np.linspace(-1, 1, 41).tolist()
    for color, (name, (neighbours, random)) in enumerate(near.items()):
        for cosines, what, style in ((neighbours, "neighbours", "-"), (random, "random pairs", "--")):
            looks: dict[str, Any] = {"color": f"C{color}", "linestyle": style, "label": f"{name}, {what}"}
            axis.hist(cosines, bins, density=True, histtype="step", **looks)
    axis.set_xticks((-1, -0.5, 0, 0.5, 1))
    axis.set_title(f"cosine of codes: within {WITHIN} edits, and random", fontsize=10)
    axis.legend(fontsize=7)


def accuracy_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Plot accuracy against the number of labels: one line per method, error bars for the spread over seeds."""
    figure = new_figure((8, 4.5), "test accuracy by number of labelled examples")
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
