"""The one worker function, in this process: reports, checkpoints, resuming, divergence, other people's checkpoints."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arae_core.evaluation.generation import SELECTION, better
from arae_core.runtime.parallel import Parallel
from arae_core.settings.tree import flatten, with_settings
from arae_core.training.checkpoint import load_checkpoint
from pipelines.corpora.corpus import prepare
from pipelines.experiment.presets import preset
from pipelines.training.worker import WORST, Metrics, Task, extend_lineage, work
from tests.pipelines.small import SMALL, weights

Make = Callable[..., Task]


class Notes:
    """A report that keeps what it is given."""

    def __init__(self, folder: Path, stop_after: int = 0) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.metrics: list[Metrics] = []
        self.checkpoints: list[Path] = []

    def __call__(self, metrics: Metrics, checkpoint: Path | None) -> None:
        self.metrics.append(metrics)
        if checkpoint is not None:
            kept = self.folder / f"{len(self.checkpoints)}"
            shutil.copytree(checkpoint, kept)
            self.checkpoints.append(kept)
        if len(self.metrics) == self.stop_after:
            raise KeyboardInterrupt


def curve(task: Task, name: str) -> list[tuple[int, float]]:
    from pipelines.tracking.store import connect

    return [(p.step, p.value) for p in connect(task.tracking_uri).get_metric_history(task.run_id, name)]


def test_a_report_and_a_checkpoint_at_each_evaluation(make_task: Make, tmp_path: Path) -> None:
    from pipelines.tracking.store import connect

    task, notes = make_task(), Notes(tmp_path / "kept")
    seen: list[Metrics] = []
    last = work(task, Parallel(), notes, progress=seen.append)
    assert [m["step"] for m in notes.metrics] == [6, 12, 18, 24]
    assert [load_checkpoint(c)[0].step for c in notes.checkpoints] == [6, 12, 18, 24]
    assert last == notes.metrics[-1]
    assert {"generation_perplexity", "valid", "coverage", "distinct", "validation_nll", "run_id"} <= last.keys()
    assert [step for step, _ in curve(task, "reconstruction_loss")] == list(range(3, 25, 3))
    assert [step for step, _ in curve(task, "generation_perplexity")] == [6, 12, 18, 24]
    assert [value for _, value in curve(task, "probe_norm_real")] == pytest.approx([1.0] * 4)
    assert {f"probe_{what}_{whose}" for what in ("norm", "variance") for whose in ("real", "fake")} <= last.keys()
    assert seen[-1]["step"] == seen[-1]["end"] == 24
    assert seen[-1]["evaluation"] == last
    used = connect(task.tracking_uri).get_run(task.run_id).data.tags["precision_used"]
    assert used == load_checkpoint(notes.checkpoints[-1])[0].precision != "auto"


def test_resuming_is_exact(make_task: Make, tmp_path: Path) -> None:
    straight, stopped, resumed = (Notes(tmp_path / name, stop) for name, stop in (("a", 0), ("b", 2), ("c", 0)))
    work(make_task(), Parallel(), straight)
    task = make_task("again")
    with pytest.raises(KeyboardInterrupt):
        work(task, Parallel(), stopped)
    work(replace(task, resume=str(stopped.checkpoints[-1])), Parallel(), resumed)
    assert weights(resumed.checkpoints[-1]) == weights(straight.checkpoints[-1])
    untimed = [
        {k: v for k, v in m.items() if "per_" not in k and k != "run_id"}
        for m in (resumed.metrics[-1], straight.metrics[-1])
    ]
    assert untimed[0] == untimed[1]
    assert [step for step, _ in curve(task, "reconstruction_loss")] == list(range(3, 25, 3))  # each point once


def test_a_worker_lost_before_its_first_checkpoint_counts_sends_no_point_twice(make_task: Make, tmp_path: Path) -> None:
    task = make_task()
    with pytest.raises(KeyboardInterrupt):
        work(task, Parallel(), Notes(tmp_path / "a", stop_after=1))
    assert [step for step, _ in curve(task, "generation_perplexity")] == [6]
    work(task, Parallel(), Notes(tmp_path / "b"))  # nobody knows of a checkpoint
    assert [step for step, _ in curve(task, "generation_perplexity")] == [6, 12, 18, 24]
    assert [step for step, _ in curve(task, "reconstruction_loss")] == list(range(3, 25, 3))


def test_a_complete_run_reports_once(make_task: Make, tmp_path: Path) -> None:
    notes, again = Notes(tmp_path / "a"), Notes(tmp_path / "b")
    task = make_task()
    work(task, Parallel(), notes)
    last = work(replace(task, resume=str(notes.checkpoints[-1])), Parallel(), again)
    assert last["step"] == 24
    assert [m["step"] for m in again.metrics] == [24]
    assert weights(again.checkpoints[0]) == weights(notes.checkpoints[-1])
    first, second = (load_checkpoint(each.checkpoints[-1])[2] for each in (notes, again))
    assert second["metrics"] == first["metrics"] and second["lineage"] == first["lineage"]


def test_a_loss_that_is_not_finite_ends_the_run_with_a_message(make_task: Make, tmp_path: Path) -> None:
    good, bad = Notes(tmp_path / "a", stop_after=1), Notes(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        work(make_task(), Parallel(), good)
    before = weights(good.checkpoints[0])
    changes = {f"{part}.learning_rate": 1e38 for part in ("encoder", "decoder")}
    last = work(make_task("wild", resume=str(good.checkpoints[0]), **changes), Parallel(), bad)
    assert "not finite" in last["diverged"] and "learning rates" in last["diverged"]
    assert last["generation_perplexity"] == WORST["min"]
    assert last["step"] == 12, "the next evaluation's: schedulers compare by step"
    assert bad.metrics == [last] and bad.checkpoints == []
    assert weights(good.checkpoints[0]) == before


def test_another_trials_checkpoint_goes_on_under_the_own_settings(make_task: Make, tmp_path: Path) -> None:
    donor, clone = Notes(tmp_path / "a", stop_after=1), Notes(tmp_path / "b", stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        work(replace(make_task("donor"), searched={"critic.learning_rate": 5e-4}), Parallel(), donor)
    mutated: dict[str, Any] = {"critic.learning_rate": 3e-4, "critic.steps": 3}
    task = make_task("clone", resume=str(donor.checkpoints[0]), **mutated)
    task = replace(task, searched=mutated)
    settings = with_settings(preset("grammar"), {**SMALL, **mutated})
    state = load_checkpoint(donor.checkpoints[0], settings=settings)[0]
    assert state.optimizers["critic"].param_groups[0]["lr"] == 3e-4
    with pytest.raises(KeyboardInterrupt):
        work(task, Parallel(), clone)
    extra = load_checkpoint(clone.checkpoints[0])[2]
    assert extra["lineage"] == [["donor", 0, {"critic.learning_rate": 5e-4}], ["clone", 6, mutated]]
    assert curve(task, "reconstruction_loss")[0][0] == 9  # what the donor measured is not the clone's
    assert curve(task, "pbt/critic.learning_rate") == [(6, 3e-4)]
    assert curve(task, "pbt/critic.steps") == [(6, 3.0)]


def test_images_run_through_the_same_function(tracking_uri: str, tmp_path: Path) -> None:
    from pipelines.tracking.runs import start_parent

    experiment = with_settings(preset("digits"), {"iterations": 4, "evaluate_every": 2, "log_every": 1, "samples": 20})
    corpus = prepare(experiment, tmp_path)
    run_id = start_parent(tracking_uri, "test", "digits", params={})
    notes = Notes(tmp_path / "kept")
    last = work(Task(flatten(experiment), str(corpus.folder), tracking_uri, run_id), Parallel(), notes)
    assert [m["step"] for m in notes.metrics] == [2, 4]
    assert {"generation_f1", "precision", "coverage"} <= last.keys()


@pytest.mark.parametrize("conditioning", ["embedding", "separate"])
def test_labelled_sentences_are_chosen_by_their_transfer(conditioning: str, tracking_uri: str, tmp_path: Path) -> None:
    from pipelines.tracking.runs import start_parent
    from pipelines.tracking.store import connect

    changes = {**SMALL, "iterations": 4, "evaluate_every": 2, "log_every": 1, "decoder.conditioning": conditioning}
    experiment = with_settings(preset("grammar-sentiment"), changes)
    corpus = prepare(experiment, tmp_path)
    run_id = start_parent(tracking_uri, "test", "sentiment", params={})
    notes = Notes(tmp_path / "kept")
    task = Task(flatten(experiment), str(corpus.folder), tracking_uri, run_id)
    last = work(task, Parallel(), notes)
    assert {"transfer_accuracy", "transfer_self_bleu", "generation_perplexity", "valid"} <= last.keys()
    assert experiment.selection == ("transfer_score", "max") and 0 <= last["transfer_score"] <= 100
    assert {step for step, _ in curve(task, "classifier_accuracy")} == {1, 2, 3, 4}
    shown = connect(tracking_uri).download_artifacts(run_id, "samples/0000004.txt", str(tmp_path))
    assert "class asked for, sentence, what became of it\n" in Path(shown).read_text()


def test_only_rank_0_shows_and_reports_figures(make_task: Make) -> None:
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    seen: list[Metrics] = []
    reported: list[tuple[Metrics, Path | None]] = []
    dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        work(make_task(), Parallel(1, 2), lambda *values: reported.append(values), progress=seen.append)
    finally:
        dist.destroy_process_group()
    assert seen == []
    assert [metrics for metrics, _ in reported] == [{}] * 4
    assert [checkpoint for _, checkpoint in reported] == [None] * 4


def test_a_lineage_has_an_entry_for_each_trial_and_its_settings() -> None:
    searched: dict[str, Any] = {"critic.hidden": (3,), "critic.steps": 2}
    task, kept = Task({}, "", "", "", trial="a", searched=searched), {"critic.hidden": [3], "critic.steps": 2}
    assert extend_lineage([["a", 0, kept]], task, 6) == [["a", 0, kept]]
    for before in (["b", 0, kept], ["a", 0, {**kept, "critic.steps": 1}]):
        assert extend_lineage([before], task, 6) == [before, ["a", 6, searched]]


def test_the_worst_score_is_worse_than_any() -> None:
    for figure, mode in SELECTION.values():
        for value in (1.0, 0.01, 99.0):
            assert better(figure, value, WORST[mode])


def test_another_trials_checkpoint_is_trained_under_the_own_settings(make_task: Make, tmp_path: Path) -> None:
    """Not under the donor's: their first steps already differ."""
    donor = Notes(tmp_path / "a", stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        work(make_task("donor"), Parallel(), donor)
    found = []
    for name, changes in (("same", {}), ("other", {"critic.learning_rate": 3e-3})):
        clone = Notes(tmp_path / name, stop_after=1)
        with pytest.raises(KeyboardInterrupt):
            work(make_task(name, resume=str(donor.checkpoints[0]), **changes), Parallel(), clone)
        found.append(weights(clone.checkpoints[0]))
    assert found[0] != found[1]
