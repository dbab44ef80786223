"""The experiments' pictures: every figure of the table is drawn where it belongs, and nothing empty is."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pipelines.evaluation import published
from pipelines.evaluation.plots import latent_figure, perplexity_figure, transfer_figure

ROWS: list[dict[str, Any]] = [
    {"model": "copy of the input", "accuracy": 3.0, "self_bleu": 100.0, "bleu": 64.0},
    {"model": "another system", "accuracy": 74.0, "self_bleu": 20.0, "bleu": 17.0},
    {"model": "models:/arae-yelp@champion", "accuracy": 85.0, "self_bleu": 26.0, "bleu": 25.0},
    {"model": "published, Yelp: AE", "accuracy": 59.0, "self_bleu": 37.0},
]


def drawn(line: Line2D) -> NDArray[np.float64]:
    return np.asarray(line.get_xydata())


def points(axis: Axes) -> dict[tuple[float, float], Any]:
    """The marked points of an axis, with the colour of each."""
    marked = [line for line in axis.lines if line.get_marker() != "None" and len(drawn(line))]
    return {tuple(drawn(line)[0].tolist()): to_rgba(line.get_color(), line.get_alpha()) for line in marked}


def test_transfer_is_a_point_a_row_against_what_is_kept() -> None:
    figure = transfer_figure(ROWS, ["models:/arae-yelp@champion"])
    source, people = figure.axes
    assert list(points(source)) == [(row["self_bleu"], row["accuracy"]) for row in ROWS]
    assert list(points(people)) == [(row["bleu"], row["accuracy"]) for row in ROWS[:3]]
    colours = list(points(source).values())
    assert colours[0] == colours[1] and len(set(colours)) == 3, "ours, others' outputs, figures as published"
    listed = [text.get_text() for text in figure.legends[0].get_texts()]
    assert listed == [f"{number}  {row['model']}" for number, row in enumerate(ROWS, 1)]
    assert {"1", "2", "3", "4"} <= {text.get_text() for text in source.texts}


def test_curves_of_transfer_are_those_of_its_score() -> None:
    axis = transfer_figure(ROWS, ()).axes[0]
    curves = [drawn(line) for line in axis.lines if line.get_marker() == "None"]
    for curve, mean in zip(curves, (20, 40, 60, 80), strict=True):
        assert ((curve[:, 0] * curve[:, 1]) ** 0.5).round(6).tolist() == [mean] * len(curve)


def test_transfer_without_rewritings_is_one_panel() -> None:
    rows = [{name: value for name, value in row.items() if name != "bleu"} for row in ROWS]
    assert len(transfer_figure([*rows, *map(dict, published.TRANSFER)], ()).axes) == 1


def test_perplexities_are_points_and_published_ones_pale() -> None:
    rows = [{"model": "ours", "forward": 22.0, "reverse": 103798.0}, {"model": "published, AE", "reverse": 97.3}]
    (axis,) = perplexity_figure(rows).axes
    assert list(points(axis)) == [(22.0, 0), (103798.0, 0), (97.3, 1)]
    assert [colour[3] for colour in points(axis).values()] == [1.0, 1.0, 0.4]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ours", "published, AE"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1], "the first row is at the top"
    low, high = axis.get_xlim()
    assert low < 22 and high > 103798


@pytest.mark.parametrize(
    ("curves", "near", "titles"),
    [
        ({"probe_norm_real": [(1, 1.0), (2, 1.0)], "probe_variance_real": []}, {}, ["mean norm"]),
        ({}, {"m": ([0.3, 0.5], [0.1, 0.0])}, ["cosine of codes: within 5 edits, and random"]),
        (
            {"probe_norm_real": [(1, 1.0)], "probe_norm_fake": [(1, 0.9)], "probe_variance_real": [(1, 0.7)]},
            {"m": ([0.3], [0.1])},
            ["mean norm", "sum of the variances of all dimensions", "cosine of codes: within 5 edits, and random"],
        ),
        ({}, {}, []),
    ],
)
def test_the_code_space_has_no_empty_panel(curves: dict[str, Any], near: dict[str, Any], titles: list[str]) -> None:
    figure = latent_figure({"m": curves}, near)
    assert [axis.get_title() for axis in figure.axes] == titles
    assert all(axis.lines or axis.patches for axis in figure.axes)
