"""Ray Tune: the first trial, early stopping, divergence, damaged state, and exploits of population based training."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from ray import tune
from ray.tune.search import basic_variant, optuna

from arae_core.runtime.parallel import Parallel
from arae_core.training.checkpoint import load_checkpoint
from pipelines.reporting.plots import sweep_figure
from pipelines.reporting.summary import trial_closer
from pipelines.runtime.cluster import Room
from pipelines.sweeps import search
from pipelines.sweeps.search import SweepResult, collect, make_trainable, make_tuner, run_sweep
from pipelines.sweeps.search_space import Space, own_values
from pipelines.sweeps.sweep import Sweep
from pipelines.sweeps.trial import TrialPlan
from pipelines.sweeps.tune_callback import SweepCallback, TrialRow
from pipelines.training.worker import WORST, Metrics, Task, train_worker
from tests.pipelines.small import RATES, Make, weights


def children(sweep: Sweep) -> list[Any]:
    from pipelines.tracking.store import connect

    client = connect(sweep.tracking_uri)
    experiment = client.get_experiment_by_name("arae-grammar")
    assert experiment is not None
    condition = f"tags.`mlflow.parentRunId` = '{sweep.run_id}'"
    return list(client.search_runs([experiment.experiment_id], condition))


def nothing(*_: object) -> None:
    """Ignore a report."""


@pytest.mark.fault
def test_a_diverged_trial_and_damaged_state_do_not_stop_a_sweep(make_sweep: Make, room: Room) -> None:
    """Ray alone would resume a damaged sweep with a search that has lost its space, and mention it in its log only."""
    space: Space = {"decoder.learning_rate": ("uniform", 1e38, 2e38), "code.noise": RATES["code.noise"]}
    sweep = make_sweep(space, 2, {"iterations": 6}, scheduler="asha", max_concurrent=1)
    make_tuner(sweep, make_trainable(sweep, room), 2)  # as if killed here, with tuner.pkl alone
    (sweep.folder / "tuner.pkl").write_bytes(b"")
    assert room.cpus == 2, "there is room for both trials"
    running: list[int] = []

    def reported(rows: list[TrialRow], _: TrialRow) -> None:
        running.append(sum(row["state"] in ("running", "waiting") for row in rows))

    before = run_sweep(sweep, room, reported, trial_closer(sweep.tracking_uri))
    assert set(running) == {1}, "max_concurrent"
    own, bad = before.rows
    assert (own["state"], bad["state"]) == ("done", "diverged") and before.best == own
    assert {name: own[name] for name in space} == own_values(space, sweep.experiment)
    assert "not finite" in bad["diverged"] and bad["generation_perplexity"] == WORST["min"]
    assert sorted(run.info.status for run in children(sweep)) == ["FAILED", "FINISHED"]

    state = max(sweep.folder.glob("experiment_state-*.json"))
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    record = sweep.folder / "sweep.json"
    record.write_text("{}")
    written = record.stat().st_mtime_ns
    after = run_sweep(sweep, room, nothing, nothing)
    assert [row["code.noise"] for row in after.rows] == [row["code.noise"] for row in before.rows]
    assert [row["state"] for row in after.rows] == ["done", "diverged"]
    assert record.stat().st_mtime_ns == written, "Ray does not write the record"
    assert set(json.loads((sweep.folder / "rungs.json").read_text())["rungs"]["6"]) == {r["trial"] for r in before.rows}


def test_a_sweep_with_optuna(make_sweep: Make, room: Room) -> None:
    sweep = make_sweep(RATES, 3, {"iterations": 18}, scheduler="asha", search="optuna")
    reports: list[TrialRow] = []
    result = run_sweep(sweep, room, lambda rows, row: reports.append(row), trial_closer(sweep.tracking_uri))
    assert len(result.rows) == 3 and result.best is not None and result.best == result.rows[0]
    scores = [row["generation_perplexity"] for row in result.rows]
    assert scores == sorted(scores) and min(r["generation_perplexity"] for r in reports) == scores[0]
    assert {row["state"] for row in result.rows} <= {"done", "stopped"}
    state, _, extra = load_checkpoint(result.best["checkpoint"])
    assert extra["metrics"]["generation_perplexity"] == scores[0] and state.step == result.best["step"]
    runs = children(sweep)
    assert len(runs) == 3 and {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:  # also the last report of a stopped trial is in MLflow
        row = next(row for row in reversed(reports) if row["run_id"] == run.info.run_id)
        assert run.data.metrics["generation_perplexity"] == pytest.approx(row["generation_perplexity"])
        assert run.data.params["critic.steps"] == str(row["critic.steps"])


@pytest.mark.fault
def test_population_based_training_exploits(make_sweep: Make, room: Room, tmp_path: Path) -> None:
    """A clone continues from its donor's weights, bit for bit, with mutated settings: trained again from the donor's
    checkpoint in this process, its next checkpoint is the same.

    The scores of models that are trained this briefly are noise, and a trial may have ended before the other's process
    has started. Here, two trials take turns: the second, with the worse score, is cloned at step 12, and is then the
    better one.
    """
    sweep = make_sweep(RATES, 2, {"iterations": 24}, scheduler="pbt")

    def scored_trial(config: dict[str, Any], plan: TrialPlan) -> None:
        from unittest.mock import patch

        from pipelines.sweeps.trial import run_trial

        report, first = tune.report, tune.get_context().get_trial_id().endswith("00000")
        score = 1.0 if first else 2.0 if tune.get_checkpoint() is None else 0.5

        def report_in_turn(metrics: Metrics, **checkpoint: Any) -> None:
            step = metrics["step"]
            awaited = tmp_path / (f"second-{step - 6}" if first else f"first-{step}")
            deadline = time.monotonic() + 100
            while not awaited.exists() and step > 6 and time.monotonic() < deadline:
                time.sleep(0.05)
            (tmp_path / f"{'first' if first else 'second'}-{step}").touch()
            report({**metrics, "generation_perplexity": score}, **checkpoint)

        with patch.object(tune, "report", report_in_turn):
            run_trial(config, plan)

    trainable = tune.with_resources(tune.with_parameters(scored_trial, plan=sweep.plan(room)), {"cpu": 1})
    SweepCallback.reported, SweepCallback.ended = nothing, nothing
    SweepCallback.interrupted, SweepCallback.selection = False, None
    results = make_tuner(sweep, trainable, 2).fit()  # run_sweep would delete donors' checkpoints
    assert not results.errors
    checkpoints = [Path(c.path) for result in results for c, _ in result.best_checkpoints]
    lineages = {path: json.loads((path / "training.json").read_text())["lineage"] for path in checkpoints}
    steps = {path: json.loads((path / "manifest.json").read_text())["step"] for path in checkpoints}
    clones = [path for path, lineage in lineages.items() if len(lineage) > 1 and steps[path] == lineage[-1][1] + 6]
    assert clones, "no trial was cloned"
    checked = 0
    for clone in clones:
        *_, (donor_trial, _, donor_settings), (trial, step, settings) = lineages[clone]
        donors = [
            path
            for path in checkpoints
            if steps[path] == step and lineages[path] == lineages[clone][:-1] and path.parent.name == donor_trial
        ]
        if donor_trial == trial or not donors:
            continue
        assert settings != donor_settings, "nothing was mutated"
        task = sweep.plan(room).task_of(trial, settings, str(donors[0]))
        assert weights(next_checkpoint(task, tmp_path / "again")) == weights(clone)
        checked += 1
    assert checked
    mutated = [name for run in children(sweep) for name in run.data.metrics if name.startswith("pbt/")]
    assert "pbt/critic.learning_rate" in mutated


def next_checkpoint(task: Task, folder: Path) -> Path:
    """Return a copy of the first checkpoint that a task reports."""

    def report(metrics: Metrics, checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint, folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_worker(task, Parallel(), report)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheduler", ["none", "pbt"])
def test_trials_of_two_workers(make_sweep: Make, room: Room, scheduler: str) -> None:
    """Four trials of two workers on two CPUs, two drivers at once: no deadlock, with checkpoints and clones."""
    sweep = make_sweep(RATES, 4, {"workers": 2}, scheduler=scheduler)
    found = run_sweep(sweep, room, nothing, trial_closer(sweep.tracking_uri))
    assert [row["state"] for row in found.rows] == ["done"] * 4
    assert found.best is not None
    folders = [Path(row["checkpoint"]) for row in found.rows]
    lineages = [(folder.parent.name, load_checkpoint(folder)[2]["lineage"]) for folder in folders]
    assert any(entry[0] != own for own, lineage in lineages for entry in lineage) == (scheduler == "pbt")
    assert not list((sweep.folder / "workers").iterdir())


def test_collect_puts_the_best_first_and_keeps_tuples(tmp_path: Path) -> None:
    """Settings come from Ray's state and from a checkpoint, both JSON. Tuples must be found among the choices."""
    (tmp_path / "training.json").write_text(json.dumps({"lineage": [["ab", 0, {"critic.hidden": [300, 30]}]]}))
    scored = SimpleNamespace(path=str(tmp_path)), {"generation_perplexity": 3.0}
    common: dict[str, Any] = {"metrics": {}, "config": {"critic.hidden": [300]}, "best_checkpoints": []}
    failed = SimpleNamespace(**common, path="b", error=RuntimeError())
    stopped = SimpleNamespace(**common, path="a", error=None)
    found = collect([failed, stopped], "generation_perplexity", "min")
    assert [row["state"] for row in found.rows] == ["failed", "stopped"] and found.best is None
    good = SimpleNamespace(**common | {"best_checkpoints": [scored]}, path="ab", error=None)
    found = collect([stopped, good], "generation_perplexity", "min")
    assert [row["critic.hidden"] for row in found.rows] == [(300, 30), (300,)]
    space: Space = {"critic.hidden": ("choice", [(300,), (300, 300)])}
    (axis,) = sweep_figure({}, found.rows, "generation_perplexity", "ab", space).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["(300,)", "(300, 300)", "(300, 30)"]


def evaluated(folder: Path, scores: list[float], **config: Any) -> Any:
    """Return Ray Tune's result of a trial with these scores, whose settings were different at its start."""
    kept = []
    for i, score in enumerate(scores):
        checkpoint = folder / f"checkpoint_{i:06d}"
        checkpoint.mkdir(parents=True)
        lineage = [["donor", 0, {"code.noise": 0.5}], [folder.name, 6, {"code.noise": score}]]
        (checkpoint / "training.json").write_text(json.dumps({"lineage": lineage, "metrics": {"score": score}}))
        kept.append((SimpleNamespace(path=str(checkpoint)), {"score": score}))
    return SimpleNamespace(metrics={}, config=config, path=str(folder), error=None, best_checkpoints=kept)


@pytest.mark.parametrize(("mode", "rows"), [("min", [("b", 1.0), ("a", 2.0)]), ("max", [("a", 9.0), ("b", 5.0)])])
def test_a_row_has_the_best_evaluation_and_the_last_settings(
    mode: str, rows: list[tuple[str, float]], tmp_path: Path
) -> None:
    results = [evaluated(tmp_path / name, scores) for name, scores in (("a", [2.0, 9, 3]), ("b", [4.0, 1, 5]))]
    found = collect(results, "score", mode)
    assert [(row["trial"], row["score"]) for row in found.rows] == rows and found.best == found.rows[0]
    assert all(row["code.noise"] == row["score"] for row in found.rows)


@pytest.fixture
def run_fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SweepResult]:
    """run_fake(sweep, fit): run the sweep with this function instead of Ray Tune's `fit`."""

    def run(sweep: Sweep, fit: Callable[[], list[Any]]) -> SweepResult:
        monkeypatch.setattr(search, "make_trainable", lambda *_: "trainable")
        monkeypatch.setattr(search, "make_tuner", lambda *_: SimpleNamespace(fit=fit))
        return run_sweep(sweep, Room(2, 0, 2, 0, attached=False), nothing, nothing)

    return run


@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_pruned_checkpoints_and_settings_without_effect(
    scheduler: str,
    make_sweep: Make,
    run_fake: Callable[..., SweepResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PBT prunes nothing while it runs. At the end, the two best checkpoints and the last one of every trial stay. Rows
    lack settings that have no effect beside a trial's other values."""
    space: Space = {"critic.objective": ("choice", ["wgan-gp", "wgan-clip"]), "critic.penalty": ("uniform", 1.0, 9.0)}
    sweep = make_sweep({**RATES, **space}, 2, scheduler=scheduler)
    result = evaluated(tmp_path / "a", [1.0, 2.0, 3.0, 4.0])
    result.config = {"code.noise": 0.1, "critic.objective": "wgan-clip", "critic.penalty": 2.0}
    pruned_by = list[Any]()
    monkeypatch.setattr(type(sweep), "selection", ("score", "min"))
    found = run_fake(sweep, lambda: pruned_by.append(SweepCallback.selection) or [result])  # type: ignore[func-returns-value]
    assert pruned_by == [None if scheduler == "pbt" else ("score", "min")]
    assert [int(path.name[-6:]) for path in sorted((tmp_path / "a").iterdir())] == [0, 1, 3]
    assert "critic.penalty" not in found.rows[0] and found.rows[0]["code.noise"] == 1.0


@pytest.mark.parametrize("interrupted", [None, signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_interrupts_a_sweep_and_signal_handlers_are_restored(
    interrupted: signal.Signals | None, make_sweep: Make, run_fake: Callable[..., SweepResult]
) -> None:
    """After Ctrl-C, Ray Tune itself returns as if all trials were done."""

    def fit() -> list[Any]:
        SweepCallback().setup()
        if interrupted is not None:
            signal.raise_signal(interrupted)
        return []

    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, nothing) for number in numbers]  # instead of Tune's handler
    try:
        with nullcontext() if interrupted is None else pytest.raises(KeyboardInterrupt):
            assert run_fake(make_sweep(RATES, 2), fit).rows == []
        assert [signal.getsignal(number) for number in numbers] == [nothing, nothing]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_resumed_sweep_tries_failed_trials_again(
    make_sweep: Make, run_fake: Callable[..., SweepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Mock(return_value=SimpleNamespace(fit=list))
    monkeypatch.setattr(search, "can_resume", lambda _: True)
    monkeypatch.setattr(tune.Tuner, "restore", restore)
    sweep = make_sweep(RATES, 2)
    run_fake(sweep, list)
    restore.assert_called_once_with(str(sweep.folder), trainable="trainable", resume_errored=True)


def test_the_resources_of_a_trial(make_sweep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver reserves no CPU of its own workers, and no resource that a shared cluster lacks."""
    monkeypatch.setattr(tune, "with_resources", lambda _, resources: resources)
    for workers, attached, expected in (
        (1, False, {"cpu": 1.0, "gpu": 0.0}),
        (2, False, {"trial_driver": 1}),
        (2, True, {"memory": 2_000_000_000}),
    ):
        sweep = make_sweep(RATES, 2, {"workers": workers})
        assert make_trainable(sweep, Room(8, 0, 8, 0, attached=attached)) == expected


@pytest.mark.parametrize(
    ("options", "limits"),
    [({"search": "optuna"}, (3, None)), ({"search": "random"}, (None, 3)), ({"scheduler": "pbt"}, (None, 0))],
    ids=["optuna", "random", "pbt"],
)
def test_a_tuner_starts_with_the_own_settings_and_has_the_sweeps_limits_and_seed(
    options: dict[str, str], limits: tuple[int | None, int | None], make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = (
        (optuna, "OptunaSearch") if "optuna" in options.values() else (basic_variant, "BasicVariantGenerator")
    )
    make = Mock(wraps=getattr(module, name))
    monkeypatch.setattr(module, name, make)
    monkeypatch.setattr(tune, "Tuner", lambda *_, **named: SimpleNamespace(**named))
    sweep = make_sweep(RATES, 5, {"max_failures": 7, "seed": 11}, **options)
    tuner: Any = make_tuner(sweep, None, 3)
    config, given = tuner.tune_config, make.call_args
    own = given.kwargs["points_to_evaluate"] if name == "OptunaSearch" else given.args[0]
    assert own == [own_values(RATES, sweep.experiment)]
    assert given.kwargs["seed" if name == "OptunaSearch" else "random_state"] == 11
    assert (config.max_concurrent_trials, getattr(config.search_alg, "max_concurrent", None)) == limits
    assert tuner.run_config.failure_config.max_failures == 7 and config.num_samples == 5
    assert random.random() == random.Random(11).random(), "the generator of population based training"
