"""The display, on a terminal and in a file, and the figures."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from rich.console import Console

from pipelines.evaluation.drawing import image_text
from pipelines.reporting.display import (
    EVALUATION_METRICS,
    ClassifiersDisplay,
    TrainingDisplay,
    TrialsDisplay,
    leaderboard,
    metrics_line,
    metrics_table,
    rows_table,
    rows_to_show,
    settings_table,
    side_by_side,
)
from pipelines.reporting.plots import read_curves, run_figure, samples_figure, sweep_figure

EVALUATION = {"step": 10, "end": 20, "reconstruction_loss": 1.25, "generation_perplexity": 33.333, "valid": 0.5}
ROWS: list[dict[str, Any]] = [
    {**EVALUATION, "trial": "ab_00000", "state": "done", "critic.steps": 5, "code.noise": 0.1},
    {**EVALUATION, "trial": "ab_00001", "state": "stopped", "critic.steps": 1, "code.noise": 0.3},
    {"trial": "ab_00002", "state": "waiting", "critic.steps": 1, "code.noise": 0.2},
]


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=120, highlight=False), out


@pytest.mark.parametrize("terminal", [True, False])
def test_a_training_prints_a_line_for_each_evaluation(terminal: bool) -> None:
    screen, out = console(terminal)
    with TrainingDisplay(screen, "run") as display:
        display.show({})
        display.show({"step": 5, "end": 20, "reconstruction_loss": 2.0, "evaluation": {}})
        for _ in range(3):
            display.show({"step": 12, "end": 20, "reconstruction_loss": 1.0, "evaluation": EVALUATION})
        display.show({"step": 20, "end": 20, "evaluation": {"step": 20, "end": 20, "diverged": "oh"}})
    assert out.getvalue().count("step 10/20: loss 1.25, generation perplexity 33.33, valid 0.5") == 1
    assert ("20/20" in out.getvalue()) == terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_trials(terminal: bool) -> None:
    screen, out = console(terminal)
    with TrialsDisplay(screen, "generation_perplexity") as display:
        display.show(ROWS, ROWS[1])
        display.show(ROWS, {**ROWS[1], "diverged": "loss not finite"})
    if terminal:
        assert "waiting" in out.getvalue()
    else:
        lines = out.getvalue().splitlines()
        assert lines[0].startswith("trial 00001, step 10/20: generation perplexity 33.33, loss 1.25")
        assert lines[1] == "trial 00001, step 10/20: loss not finite"


def test_a_line_of_a_trial_has_each_metric_once() -> None:
    screen, out = console(terminal=False)
    metrics = {"transfer_score": 50.0, "transfer_accuracy": 90.0, "generation_perplexity": 33.0}
    for metric in metrics:
        with TrialsDisplay(screen, metric) as display:
            display.show(ROWS, {**ROWS[1], **metrics})
    for line in out.getvalue().splitlines():
        assert [line.count(name.replace("_", " ")) for name in metrics] == [1, 1, 1]


def test_tables() -> None:
    screen, out = console(False)
    screen.print(leaderboard(ROWS, "generation_perplexity", "sweep"))
    screen.print(settings_table(ROWS, ["critic.steps", "code.noise"], most=2))
    screen.print(metrics_table(EVALUATION, "best"))
    text = out.getvalue()
    assert text.index("00000") < text.index("00001") < text.index("00002")
    assert "critic.steps" in text and "10/20" in text and "33.33" in text
    assert metrics_line(EVALUATION, ["reconstruction_loss", "missing"]) == "loss 1.25"


def many(count: int) -> list[dict[str, Any]]:
    """Return trials of a long sweep: all done but the last two, each better than the one before."""
    rows = [
        {**EVALUATION, "trial": f"ab_{i:05d}", "state": "done", "generation_perplexity": 999.0 - i}
        for i in range(count)
    ]
    return [*rows[:-2], *({**row, "state": "running"} for row in rows[-2:])]


def test_a_long_leaderboard_says_how_many_more_there_are() -> None:
    screen, out = console(False)
    screen.print(leaderboard(many(200), "generation_perplexity", "sweep"))
    lines = out.getvalue().splitlines()
    assert sum("10/20" in line for line in lines) == 20
    assert lines[-1].strip() == "and 180 more in leaderboard.json"
    screen, out = console(False)
    screen.print(leaderboard(many(20), "generation_perplexity", "sweep"))
    assert out.getvalue().count("10/20") == 20 and "more" not in out.getvalue()


def test_of_many_trials_the_running_and_the_best_are_shown() -> None:
    rows = many(200)
    assert rows_to_show(rows[:7], "generation_perplexity", 7) == rows[:7]
    for most, shown in ((5, ["198", "199", "197", "196", "195"]), (2, ["198", "199"])):
        assert [row["trial"][-3:] for row in rows_to_show(rows, "generation_perplexity", most)] == shown
    waiting = {"trial": "ab_00200", "state": "waiting"}
    scores = [{"trial": str(i), "state": "stopped", "transfer_score": float(i)} for i in range(9)]
    assert [row["trial"] for row in rows_to_show([waiting, *scores], "transfer_score", 3)] == ["8", "7", "6"]
    assert rows_to_show([waiting, *scores[:2]], "transfer_score", 3)[0] == waiting


def test_a_live_table_of_many_trials_fits_its_terminal() -> None:
    screen, out = console(True)
    with TrialsDisplay(screen, "generation_perplexity") as display:
        rows = many(200)
        display.show([*rows, {"trial": "ab_00200", "state": "waiting"}], rows[-1])
    text = out.getvalue()
    assert text.partition(" more: ")[0].count("10/20") == screen.height - 9  # it is drawn once more at the end
    assert f"and {201 - screen.height + 9} more: {201 - screen.height + 8} done, 1 waiting" in text


def test_images_in_half_blocks() -> None:
    image = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], np.uint8)
    assert image_text(image) == "█▄▀\n  ▀"
    assert side_by_side([image, image]).splitlines()[0] == "█▄▀  █▄▀"


def test_figures(tracking_uri: str, tmp_path: Path) -> None:
    """Curves are in the order of steps, with the last point of each: after an exploit, steps come again."""
    from pipelines.tracking.runs import Tracker, start_parent

    run_id = start_parent(tracking_uri, "test", "run", params={})
    points = [
        ("reconstruction_loss", v, 1000 + i, step) for i, (step, v) in enumerate(((20, 0.2), (10, 0.1), (20, 0.05)))
    ]
    points += [("generation_perplexity", 30.0, 1000, 10), ("other", 1.0, 1000, 10)]
    Tracker(tracking_uri, run_id, points).flush()
    curves = read_curves(tracking_uri, run_id)
    assert curves == {"reconstruction_loss": ([10, 20], [0.1, 0.05]), "generation_perplexity": ([10], [30.0])}
    space: dict[str, tuple[Any, ...]] = {"critic.steps": ("choice", [1, 3]), "code.noise": ("loguniform", 0.01, 1.0)}
    space["critic.clip"] = ("loguniform", 0.001, 0.1)  # without effect in all trials: no row has it
    figures = {
        "run": run_figure(curves, "run"),
        "nothing": run_figure({}, "run"),
        "sweep": sweep_figure(curves, ROWS, "generation_perplexity", "ab_00000", space),
        "samples": samples_figure(np.ones((13, 4, 6), np.uint8), "samples"),
    }
    titles = ["loss", "perplexity", "critic.steps", "code.noise", "critic.clip"]
    assert [axis.get_title() for axis in figures["sweep"].axes] == titles
    assert figures["sweep"].get_suptitle().startswith("best trial 00000: ")
    assert len(figures["samples"].axes) == 13
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


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


def test_names_of_models_are_not_cut() -> None:
    names = [f"models:/arae-grammar-sentiment-of-some-length@{alias}" for alias in ("champion", "candidate")]
    console = Console(width=60, file=io.StringIO())
    console.print(rows_table([{"model": name, "a figure": 1.0, "another figure": 2.0} for name in names], "x"))
    assert isinstance(console.file, io.StringIO)
    lines = [line.split("\u2502") for line in console.file.getvalue().splitlines()]
    cells = [line[1].strip() for line in lines if len(line) > 3]
    assert "".join(cells) == "".join(names)


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


def test_a_line_for_each_finished_classifier() -> None:
    screen, out = console(False)
    row = {"method": "arae", "labels": 3000, "seed": 2, "step": 70, "test": 61.54, "validation": 63.25}
    with ClassifiersDisplay(screen, "table", 5) as display:
        display.started("supervised", 2)  # has no autoencoder
        display.started("arae", 2)
        display.progress(0.3)
        display.ended(row)
        display.ended({"method": "ae", "labels": 7, "seed": 0, "diverged": "loss is not finite"})
    assert out.getvalue().splitlines() == [
        "autoencoder of arae, seed 2: ready",
        "1 of 5: arae, 3,000 labels, seed 2: test 61.5 %, validation 63.2 %, best at step 70",
        "2 of 5: ae, 7 labels, seed 0: loss is not finite",
    ]


def test_the_selection_metric_is_the_first_column_of_a_leaderboard() -> None:
    row = {**EVALUATION, "trial": "ab_00000", "state": "done", **dict.fromkeys(EVALUATION_METRICS, 0.5)}
    for metric in ("generation_perplexity", "generation_f1", "validation_accuracy"):
        columns = [str(column.header) for column in leaderboard([row], metric, "sweep").columns]
        assert columns[:4] == ["trial", "state", "step", metric.replace("_", " ")]
        assert len(columns) == len(set(columns)) == 3 + 7
