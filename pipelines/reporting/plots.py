"""Figures of a finished run: its curves, its samples, and the scores of all trials against every searched setting."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.drawing import new_figure
from pipelines.reporting.display import trial_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""Metric -> (steps, values)."""

PANELS = (
    ("loss", ("reconstruction_loss", "validation_nll")),
    ("critic", ("distance", "gradient_penalty")),
    ("length of codes", ("code_norm_real", "code_norm_fake")),
    ("perplexity", ("forward_perplexity", "reverse_perplexity", "generation_perplexity")),
    ("transfer", ("transfer_score", "transfer_accuracy", "transfer_self_bleu")),
    ("classifier of codes", ("classifier_loss", "hiding_loss", "classifier_accuracy")),
    ("samples", ("valid", "distinct", "novel", "precision", "coverage", "generation_f1", "validation_accuracy")),
)
"""Title and metrics of each panel."""


def read_curves(tracking_uri: str, run_id: str) -> Curves:
    """Return those curves of PANELS that an MLflow run has, in order of steps; the last point of a step counts."""
    from pipelines.tracking.store import connect, retry_while_unreachable

    client = connect(tracking_uri)
    known = retry_while_unreachable(tracking_uri, lambda: client.get_run(run_id).data.metrics)
    curves = {}
    for name in (name for _, names in PANELS for name in names if name in known):
        points = sorted({point.step: float(point.value) for point in client.get_metric_history(run_id, name)}.items())
        curves[name] = ([step for step, _ in points], [value for _, value in points])
    return curves


def run_figure(curves: Curves, title: str) -> "Figure":
    """Return a figure with a panel for each group of curves that exist."""
    panels = [(name, names) for name, names in PANELS if any(n in curves for n in names)]
    figure, axes = _grid(max(1, len(panels)), title)
    for axis, (name, names) in zip(axes, panels, strict=False):
        _draw_curves(axis, curves, names, name)
    return figure


def sweep_figure(
    curves: Curves, rows: Sequence[Mapping[str, Any]], metric: str, best: str, space: Mapping[str, tuple[Any, ...]]
) -> "Figure":
    """Return a figure of the best trial's curves, and of all trials' scores against each setting of the space.

    rows: of the trials, with "trial", the metric and the searched settings by name. The best trial is red.
    """
    panels = [(name, names) for name, names in PANELS if any(n in curves for n in names)]
    title = f"best trial {trial_number({'trial': best})}: its curves, then {_label(metric)} by setting"
    figure, axes = _grid(len(panels) + len(space), title)
    for axis, (name, names) in zip(axes, panels, strict=False):
        _draw_curves(axis, curves, names, name)
    rows = [row for row in rows if math.isfinite(row.get(metric, math.nan)) and not row.get("diverged")]
    for axis, (name, domain) in zip(axes[len(panels) :], space.items(), strict=True):
        _draw_setting(axis, [row for row in rows if name in row], metric, best, name, domain)
    return figure


def samples_figure(images: Any, title: str) -> "Figure":
    """Return a figure of binary images uint8[N, H, W], ten in a row."""
    rows = math.ceil(len(images) / 10)
    figure = new_figure((10, rows + 0.6), title)
    for i, image in enumerate(images):
        axis = figure.add_subplot(rows, 10, i + 1)
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axis.axis("off")
    return figure


def _draw_curves(axis: "Axes", curves: Curves, names: Sequence[str], title: str) -> None:
    for name in names:
        if name in curves:
            steps, values = curves[name]
            axis.plot(steps, values, label=_label(name), marker="o" if len(steps) < 15 else None, markersize=3)
    if title == "perplexity":
        axis.set_yscale("log")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("iteration", fontsize=8)
    axis.legend(fontsize=7)


def _draw_setting(
    axis: "Axes", rows: Sequence[Mapping[str, Any]], metric: str, best: str, name: str, domain: tuple[Any, ...]
) -> None:
    from matplotlib.ticker import NullFormatter

    axis.set_title(name, fontsize=10)
    if not rows:  # critic.clip, for instance, if no trial clips weights
        axis.text(0.5, 0.5, "without effect in any trial", ha="center", fontsize=8, transform=axis.transAxes)
        return
    values = [row[name] for row in rows]
    if domain[0] == "choice":
        choices = list(dict.fromkeys([*domain[1], *values]))
        axis.set_xticks(range(len(choices)), [str(choice) for choice in choices])
        values = [choices.index(value) for value in values]
    elif domain[0] == "loguniform":
        if min(values) > 0:
            axis.set_xscale("log")
        else:  # the preset's own value may be 0, which a search never draws
            axis.set_xscale("symlog", linthresh=domain[1])
        axis.xaxis.set_minor_formatter(NullFormatter())  # labels would overlap in a short range
    if domain[0] in ("uniform", "loguniform"):
        low, high = domain[1:]
        margin = (high / low) ** 0.05 if domain[0] == "loguniform" else (high - low) * 0.05
        outer = (low / margin, high * margin) if domain[0] == "loguniform" else (low - margin, high + margin)
        left = min(outer[0], *values)
        axis.set_xlim(left if left > 0 or domain[0] == "uniform" else -low / 4, max(outer[1], *values))
    colors = ["tab:red" if row["trial"] == best else "tab:blue" for row in rows]
    axis.scatter(values, [row[metric] for row in rows], c=colors, s=18)
    if metric.endswith("perplexity"):
        axis.set_yscale("log")
    axis.set_ylabel(_label(metric), fontsize=8)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _grid(count: int, title: str) -> "tuple[Figure, list[Axes]]":
    columns = min(4, count)
    rows = math.ceil(count / columns)
    figure = new_figure((4.2 * columns, 2.8 * rows + 0.4), title)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axis in axes:
        axis.tick_params(which="both", labelsize=7)
        axis.grid(alpha=0.3)
    return figure, axes
