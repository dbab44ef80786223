"""The worker, in this process: reports, checkpoints, resuming, divergence, checkpoints of other trials."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from arae_core.evaluation.generation import SELECTION, better
from arae_core.runtime.parallel import Parallel
from arae_core.settings.tree import flatten, with_settings
from arae_core.training.checkpoint import load_checkpoint
from pipelines.corpora.corpus import Corpus, prepare
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Experiment
from pipelines.tracking.store import connect
from pipelines.training.worker import WORST, Metrics, Task, extend_lineage, train_worker
from tests.pipelines.small import SMALL, weights

Make = Callable[..., Task]


class Notes:
    """A report function that keeps its arguments, and raises KeyboardInterrupt in the report `stop_after`."""

    def __init__(self, folder: Path, stop_after: int = 0) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.metrics: list[Metrics] = []
        self.checkpoints: list[Path] = []

    def __call__(self, metrics: Metrics, checkpoint: Path | None) -> None:
        self.metrics.append(metrics)
        if checkpoint is not None:
            self.checkpoints.append(shutil.copytree(checkpoint, self.folder / f"{len(self.checkpoints)}"))
        if len(self.metrics) == self.stop_after:
            raise KeyboardInterrupt


def train(task: Task, folder: Path, stop_after: int = 0, **named: Any) -> Notes:
    notes = Notes(folder, stop_after)
    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            train_worker(task, Parallel(), notes, **named)
    else:
        assert train_worker(task, Parallel(), notes, **named) == notes.metrics[-1]
    return notes


def curve(task: Task, name: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in connect(task.tracking_uri).get_metric_history(task.run_id, name)]


def steps(task: Task, name: str) -> list[int]:
    return [step for step, _ in curve(task, name)]


class Run(NamedTuple):
    task: Task
    notes: Notes
    seen: list[Metrics]


@pytest.fixture(scope="module")
def straight(corpus: Corpus, small: Experiment, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run from its beginning to its end."""
    from pipelines.tracking.runs import start_parent

    folder = tmp_path_factory.mktemp("straight")
    uri = f"sqlite:///{shutil.copyfile(empty_database, folder / 'mlflow.db')}"
    task = Task(flatten(small), str(corpus.folder), uri, start_parent(uri, "test", "straight", params={}))
    seen: list[Metrics] = []
    return Run(task, train(task, folder / "kept", progress=seen.append), seen)


def test_every_evaluation_has_a_report_and_a_checkpoint(straight: Run) -> None:
    task, notes, seen = straight
    last = notes.metrics[-1]
    assert [m["step"] for m in notes.metrics] == [6, 12, 18, 24]
    assert [load_checkpoint(c)[0].step for c in notes.checkpoints] == [6, 12, 18, 24]
    assert {"generation_perplexity", "valid", "coverage", "distinct", "validation_nll", "run_id"} <= last.keys()
    assert steps(task, "reconstruction_loss") == list(range(3, 25, 3))
    assert steps(task, "generation_perplexity") == [6, 12, 18, 24]
    assert [value for _, value in curve(task, "probe_norm_real")] == pytest.approx([1.0] * 4)
    assert {f"probe_{what}_{whose}" for what in ("norm", "variance") for whose in ("real", "fake")} <= last.keys()
    assert seen[-1]["step"] == seen[-1]["end"] == 24 and seen[-1]["evaluation"] == last
    used = connect(task.tracking_uri).get_run(task.run_id).data.tags["precision_used"]
    assert used == load_checkpoint(notes.checkpoints[-1])[0].precision != "auto"


def test_resuming_is_exact(straight: Run, make_task: Make, tmp_path: Path) -> None:
    task = make_task("again")
    train(task, tmp_path / "lost", stop_after=1)  # its checkpoint never counts
    stopped = train(task, tmp_path / "stopped", stop_after=2)
    resumed = train(replace(task, resume=str(stopped.checkpoints[-1])), tmp_path / "resumed")
    assert weights(resumed.checkpoints[-1]) == weights(straight.notes.checkpoints[-1])
    untimed = [
        {k: v for k, v in run.metrics[-1].items() if "per_" not in k and k != "run_id"}
        for run in (resumed, straight.notes)
    ]
    assert untimed[0] == untimed[1]
    assert steps(task, "reconstruction_loss") == list(range(3, 25, 3)), "each point once"
    assert steps(task, "generation_perplexity") == [6, 12, 18, 24]


def test_a_complete_run_reports_once(straight: Run, make_task: Make, tmp_path: Path) -> None:
    last = straight.notes.checkpoints[-1]
    again = train(make_task(resume=str(last)), tmp_path)
    assert [m["step"] for m in again.metrics] == [24]
    assert weights(again.checkpoints[0]) == weights(last)
    first, second = (load_checkpoint(checkpoint)[2] for checkpoint in (last, again.checkpoints[0]))
    assert second["lineage"] == first["lineage"]
    assert second["metrics"] | {"run_id": ""} == first["metrics"] | {"run_id": ""}


def test_a_loss_that_is_not_finite_ends_the_run(straight: Run, make_task: Make, tmp_path: Path) -> None:
    good = straight.notes.checkpoints[0]
    before = weights(good)
    changes = {f"{part}.learning_rate": 1e38 for part in ("encoder", "decoder")}
    bad = train(make_task("wild", resume=str(good), **changes), tmp_path)
    (last,) = bad.metrics
    assert "not finite" in last["diverged"] and "learning rates" in last["diverged"]
    assert last["generation_perplexity"] == WORST["min"]
    assert last["step"] == 12, "the step of the next evaluation: schedulers compare by step"
    assert bad.checkpoints == [] and weights(good) == before


def test_a_donors_checkpoint_is_trained_with_the_clones_settings(
    straight: Run, make_task: Make, tmp_path: Path
) -> None:
    donor = straight.notes.checkpoints[0]
    mutated: dict[str, Any] = {"critic.learning_rate": 3e-4, "critic.steps": 3}
    task = replace(make_task("clone", resume=str(donor), **mutated), searched=mutated)
    settings = with_settings(preset("grammar"), {**SMALL, **mutated})
    assert load_checkpoint(donor, settings=settings)[0].optimizers["critic"].param_groups[0]["lr"] == 3e-4
    clone = train(task, tmp_path, stop_after=1).checkpoints[0]
    assert load_checkpoint(clone)[2]["lineage"] == [["train", 0, {}], ["clone", 6, mutated]]
    assert weights(clone) != weights(straight.notes.checkpoints[1])
    assert steps(task, "reconstruction_loss")[0] == 9, "the donor's points are not the clone's"
    assert curve(task, "pbt/critic.learning_rate") == [(6, 3e-4)]
    assert curve(task, "pbt/critic.steps") == [(6, 3.0)]


SHORT: dict[str, Any] = {"iterations": 4, "evaluate_every": 2, "log_every": 1, "samples": 20}


def other_task(experiment: Experiment, uri: str, folder: Path) -> Task:
    from pipelines.tracking.runs import start_parent

    corpus = prepare(experiment, folder)
    return Task(flatten(experiment), str(corpus.folder), uri, start_parent(uri, "test", "run", params={}))


def test_images(tracking_uri: str, tmp_path: Path) -> None:
    sizes = {name: SMALL[name] for name in ("encoder.hidden", "decoder.hidden", "code.size", "generator.hidden")}
    task = other_task(with_settings(preset("digits"), {**SHORT, **sizes}), tracking_uri, tmp_path)
    notes = train(task, tmp_path / "kept")
    assert [m["step"] for m in notes.metrics] == [2, 4]
    assert {"generation_f1", "precision", "coverage"} <= notes.metrics[-1].keys()


def test_labelled_sentences_are_selected_by_their_transfer(tracking_uri: str, tmp_path: Path) -> None:
    changes = {**SMALL, **SHORT, "decoder.conditioning": "separate"}
    experiment = with_settings(preset("grammar-sentiment"), changes)
    task = other_task(experiment, tracking_uri, tmp_path)
    last = train(task, tmp_path / "kept").metrics[-1]
    assert {"transfer_accuracy", "transfer_self_bleu", "generation_perplexity", "valid"} <= last.keys()
    assert experiment.selection == ("transfer_score", "max") and 0 <= last["transfer_score"] <= 100
    assert set(steps(task, "classifier_accuracy")) == {1, 2, 3, 4}
    shown = connect(tracking_uri).download_artifacts(task.run_id, "samples/0000004.txt", str(tmp_path))
    assert "transferred sentence\n" in Path(shown).read_text()


def test_only_rank_0_shows_and_reports_metrics(make_task: Make) -> None:
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    seen: list[Metrics] = []
    reported: list[tuple[Metrics, Path | None]] = []
    dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        task = make_task(iterations=12)
        train_worker(task, Parallel(1, 2), lambda *values: reported.append(values), progress=seen.append)
    finally:
        dist.destroy_process_group()
    assert seen == [] and reported == [({}, None)] * 2


def test_a_lineage_has_an_entry_for_each_trial_and_its_settings() -> None:
    searched: dict[str, Any] = {"critic.hidden": (3,), "critic.steps": 2}
    task, stored = Task({}, "", "", "", trial="a", searched=searched), {"critic.hidden": [3], "critic.steps": 2}
    assert extend_lineage([["a", 0, stored]], task, 6) == [["a", 0, stored]]
    for before in (["b", 0, stored], ["a", 0, {**stored, "critic.steps": 1}]):
        assert extend_lineage([before], task, 6) == [before, ["a", 6, searched]]


def test_the_worst_score_is_worse_than_any() -> None:
    for metric, mode in SELECTION.values():
        assert all(better(metric, value, WORST[mode]) for value in (1.0, 0.01, 99.0))
