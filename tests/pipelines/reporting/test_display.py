"""The display, on a terminal and in a file, and the figures."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from rich.console import Console

from pipelines.evaluation.drawing import image_text
from pipelines.reporting import display
from pipelines.reporting.display import ClassifiersDisplay, TrainingDisplay, TrialsDisplay, rows_to_show
from pipelines.reporting.plots import read_curves, run_figure, samples_figure, sweep_figure
from pipelines.tracking.runs import Tracker, start_parent

PERPLEXITY = "generation_perplexity"
EVALUATION = {"step": 10, "end": 20, "reconstruction_loss": 1.25, PERPLEXITY: 33.333, "valid": 0.5}
ROWS: list[dict[str, Any]] = [
    {**EVALUATION, "trial": "ab_00000", "state": "done", "critic.steps": 5, "code.noise": 0.1},
    {**EVALUATION, "trial": "ab_00001", "state": "stopped", "critic.steps": 1, "code.noise": 0.3},
    {"trial": "ab_00002", "state": "waiting", "critic.steps": 1, "code.noise": 0.2},
]


def printed(show: Callable[[Console], object], *, terminal: bool = False, width: int = 120) -> str:
    """Return the output of show(console)."""
    out = io.StringIO()
    show(Console(file=out, force_terminal=terminal, width=width, height=25, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_training_prints_a_line_for_each_evaluation(terminal: bool) -> None:
    def show(console: Console) -> None:
        with TrainingDisplay(console, "run") as shown:
            shown.show({})
            shown.show({"step": 5, "end": 20, "reconstruction_loss": 2.0, "evaluation": {}})
            for _ in range(3):
                shown.show({"step": 12, "end": 20, "reconstruction_loss": 1.0, "evaluation": EVALUATION})
            shown.show({"step": 20, "end": 20, "evaluation": {"step": 20, "end": 20, "diverged": "oh"}})

    text = printed(show, terminal=terminal)
    assert text.count("step 10/20: loss 1.25, generation perplexity 33.33, valid 0.5") == 1
    assert ("20/20" in text) == terminal


def trials(*news: dict[str, Any], rows: list[dict[str, Any]] = ROWS, metric: str = PERPLEXITY) -> Any:
    def show(console: Console) -> None:
        with TrialsDisplay(console, metric) as shown:
            for row in news:
                shown.show(rows, row)

    return show


def test_trials() -> None:
    news = ROWS[1], {**ROWS[1], "diverged": "loss not finite"}
    assert "waiting" in printed(trials(*news), terminal=True)
    lines = printed(trials(*news)).splitlines()
    assert lines[0].startswith("trial 00001, step 10/20: generation perplexity 33.33, loss 1.25")
    assert lines[1] == "trial 00001, step 10/20: loss not finite"
    metrics = {"transfer_score": 50.0, "transfer_accuracy": 90.0, PERPLEXITY: 33.0}
    for metric in metrics:  # each metric once, whichever is the selection metric
        line = printed(trials({**ROWS[1], **metrics}, metric=metric))
        assert [line.count(name.replace("_", " ")) for name in metrics] == [1, 1, 1]


def test_tables() -> None:
    text = printed(lambda console: console.print(display.leaderboard(ROWS, PERPLEXITY, "sweep")))
    assert text.index("00000") < text.index("00001") < text.index("00002") and "10/20" in text and "33.33" in text
    text = printed(lambda console: console.print(display.settings_table(ROWS, ["critic.steps"], most=2)))
    assert "critic.steps" in text and "00001" in text and "00002" not in text
    assert "33.33" in printed(lambda console: console.print(display.metrics_table(EVALUATION, "best")))
    assert display.metrics_line(EVALUATION, ["reconstruction_loss", "missing"]) == "loss 1.25"
    row = {**EVALUATION, "trial": "ab_00000", "state": "done", **dict.fromkeys(display.EVALUATION_METRICS, 0.5)}
    for metric in (PERPLEXITY, "generation_f1", "validation_accuracy"):  # the selection metric is the first of seven
        columns = [str(column.header) for column in display.leaderboard([row], metric, "sweep").columns]
        assert columns[:4] == ["trial", "state", "step", metric.replace("_", " ")]
        assert len(columns) == len(set(columns)) == 3 + 7


def many(count: int) -> list[dict[str, Any]]:
    """Return trials of a long sweep: all done but the last two, each better than the one before."""
    rows = [{**EVALUATION, "trial": f"ab_{i:05d}", "state": "done", PERPLEXITY: 999.0 - i} for i in range(count)]
    return [*rows[:-2], *({**row, "state": "running"} for row in rows[-2:])]


def test_a_long_leaderboard_is_shortened() -> None:
    text = printed(lambda console: console.print(display.leaderboard(many(200), PERPLEXITY, "sweep")))
    assert text.count("10/20") == 20 and text.splitlines()[-1].strip() == "and 180 more in leaderboard.json"
    text = printed(lambda console: console.print(display.leaderboard(many(20), PERPLEXITY, "sweep")))
    assert text.count("10/20") == 20 and "more" not in text
    rows = [*many(200), {"trial": "ab_00200", "state": "waiting"}]
    text = printed(trials(rows[199], rows=rows), terminal=True)
    assert text.partition(" more: ")[0].count("10/20") == 25 - 9, "the live table fits the terminal"
    assert f"and {201 - 25 + 9} more: {201 - 25 + 8} done, 1 waiting" in text


def test_of_many_trials_the_running_and_the_best_are_shown() -> None:
    rows = many(200)
    assert rows_to_show(rows[:7], PERPLEXITY, 7) == rows[:7]
    for most, shown in ((5, ["198", "199", "197", "196", "195"]), (2, ["198", "199"])):
        assert [row["trial"][-3:] for row in rows_to_show(rows, PERPLEXITY, most)] == shown
    waiting = {"trial": "ab_00200", "state": "waiting"}
    scores = [{"trial": str(i), "state": "stopped", "transfer_score": float(i)} for i in range(9)]
    assert [row["trial"] for row in rows_to_show([waiting, *scores], "transfer_score", 3)] == ["8", "7", "6"]
    assert rows_to_show([waiting, *scores[:2]], "transfer_score", 3)[0] == waiting


def test_a_line_for_each_finished_classifier() -> None:
    def show(console: Console) -> None:
        with ClassifiersDisplay(console, "table", 5) as shown:
            shown.started("supervised", 2)  # has no autoencoder
            shown.started("arae", 2)
            shown.progress(0.3)
            shown.ended(row)
            shown.ended({"method": "ae", "labels": 7, "seed": 0, "diverged": "loss is not finite"})

    row = {"method": "arae", "labels": 3000, "seed": 2, "step": 70, "test": 61.54, "validation": 63.25}
    assert printed(show).splitlines() == [
        "autoencoder of arae, seed 2: ready",
        "1 of 5: arae, 3,000 labels, seed 2: test 61.5 %, validation 63.2 %, best at step 70",
        "2 of 5: ae, 7 labels, seed 0: loss is not finite",
    ]


def test_names_of_models_are_not_cut() -> None:
    names = [f"models:/arae-grammar-sentiment-of-some-length@{alias}" for alias in ("champion", "candidate")]
    table = display.rows_table([{"model": name, "a figure": 1.0, "another figure": 2.0} for name in names], "x")
    lines = [line.split("\u2502") for line in printed(lambda console: console.print(table), width=60).splitlines()]
    assert "".join(line[1].strip() for line in lines if len(line) > 3) == "".join(names)


def test_images_in_half_blocks() -> None:
    image = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], np.uint8)
    assert image_text(image) == "█▄▀\n  ▀"
    assert display.side_by_side([image, image]).splitlines()[0] == "█▄▀  █▄▀"


def test_figures(tracking_uri: str, tmp_path: Path) -> None:
    """Curves are in the order of steps, with the last point of each: after an exploit, steps come again."""
    run_id = start_parent(tracking_uri, "test", "run", params={})
    points: list[tuple[str, float, int, int]] = [(PERPLEXITY, 30.0, 1000, 10), ("other", 1.0, 1000, 10)]
    for i, (step, value) in enumerate(((20, 0.2), (10, 0.1), (20, 0.05))):
        points.append(("reconstruction_loss", value, 1000 + i, step))
    Tracker(tracking_uri, run_id, points).flush()
    curves = read_curves(tracking_uri, run_id)
    assert curves == {"reconstruction_loss": ([10, 20], [0.1, 0.05]), PERPLEXITY: ([10], [30.0])}
    space: dict[str, tuple[Any, ...]] = {"critic.steps": ("choice", [1, 3]), "code.noise": ("loguniform", 0.01, 1.0)}
    space["critic.clip"] = ("loguniform", 0.001, 0.1)  # without effect in all trials: no row has it
    figures = {
        "run": run_figure(curves, "run"),
        "nothing": run_figure({}, "run"),
        "sweep": sweep_figure(curves, ROWS, PERPLEXITY, "ab_00000", space),
        "samples": samples_figure(np.ones((13, 4, 6), np.uint8), "samples"),
    }
    titles = ["loss", "perplexity", "critic.steps", "code.noise", "critic.clip"]
    assert [axis.get_title() for axis in figures["sweep"].axes] == titles
    assert figures["sweep"].get_suptitle().startswith("best trial 00000: ")
    assert len(figures["samples"].axes) == 13
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_every_trial_with_a_score_is_a_dot_and_the_best_is_red() -> None:
    rows: list[dict[str, Any]] = [
        {"trial": "ab_0", "score": 3.0, "critic.steps": 3},
        {"trial": "ab_1", "score": 1.0, "critic.steps": 1},
        {"trial": "ab_2", "score": 1e6, "critic.steps": 1, "diverged": "not finite"},
        {"trial": "ab_3", "critic.steps": 3},
    ]
    (axis,) = sweep_figure({}, rows, "score", "ab_1", {"critic.steps": ("choice", [1, 3])}).axes
    (dots,) = axis.collections
    assert np.asarray(dots.get_offsets()).tolist() == [[1, 3.0], [0, 1.0]]
    assert np.allclose(np.asarray(dots.get_facecolor()), [to_rgba("tab:blue"), to_rgba("tab:red")])


def test_a_value_of_0_is_visible_on_a_logarithmic_axis() -> None:
    rows = [{"trial": f"ab_{i}", "score": 1.0 + i, "code.noise": noise} for i, noise in enumerate((0.0, 0.05, 0.3))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = sweep_figure({}, rows, "score", "ab_0", {"code.noise": ("loguniform", 0.01, 0.3)})
        figure.canvas.draw()
    (axis,) = figure.axes
    left, right = axis.get_xlim()
    assert left < 0 < 0.3 < right
    assert len({round(axis.transData.transform((noise, 1.0))[0]) for noise in (0.0, 0.05, 0.3)}) == 3
