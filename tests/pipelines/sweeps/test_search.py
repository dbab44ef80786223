"""Ray Tune for real: the first trial, early stopping, divergence, and whether population based training exploits."""

import json
import random
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.search import basic_variant, optuna

from arae_core.runtime.parallel import Parallel
from arae_core.settings.tree import flatten
from arae_core.training.checkpoint import load_checkpoint
from pipelines.reporting.plots import sweep_picture
from pipelines.reporting.summary import trial_closer
from pipelines.runtime.cluster import Room
from pipelines.sweeps import search
from pipelines.sweeps.search import collect, make_trainable, make_tuner, run_sweep
from pipelines.sweeps.search_space import Space, own_values
from pipelines.sweeps.sweep import Sweep
from pipelines.sweeps.tune_callback import Row, Watch
from pipelines.training.worker import WORST, Metrics, Task, work
from tests.pipelines.small import RATES, Make, weights


def children(sweep: Sweep) -> list[Any]:
    from pipelines.tracking.store import connect

    client = connect(sweep.tracking_uri)
    experiment = client.get_experiment_by_name("arae-grammar")
    assert experiment is not None
    condition = f"tags.`mlflow.parentRunId` = '{sweep.run_id}'"
    return list(client.search_runs([experiment.experiment_id], condition))


def nothing(*_: object) -> None:
    """For when nobody watches."""


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_sweep_from_end_to_end(make_sweep: Make, room: Room, search: str) -> None:
    sweep = make_sweep(RATES, 3, scheduler="asha", search=search)
    reports: list[Row] = []
    found = run_sweep(sweep, room, lambda rows, row: reports.append(row), trial_closer(sweep.tracking_uri))
    assert len(found.rows) == 3
    first = next(row for row in found.rows if row["trial"].endswith("00000") or search == "optuna")
    if search == "random":
        own = flatten(sweep.experiment)
        assert {name: first[name] for name in RATES} == {name: own[name] for name in RATES}
    assert found.best is not None and found.best == found.rows[0]
    scores = [row["generation_perplexity"] for row in found.rows]
    assert scores == sorted(scores) and min(r["generation_perplexity"] for r in reports) == scores[0]
    assert {row["state"] for row in found.rows} <= {"done", "stopped"}
    state, _, extra = load_checkpoint(found.best["checkpoint"])
    assert extra["metrics"]["generation_perplexity"] == scores[0] and state.step == found.best["step"]
    runs = children(sweep)
    assert len(runs) == 3 and {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:  # the last report of a stopped trial is there, too
        row = next(row for row in reversed(reports) if row["run_id"] == run.info.run_id)
        assert run.data.metrics["generation_perplexity"] == pytest.approx(row["generation_perplexity"])
        assert run.data.params["critic.steps"] == str(row["critic.steps"])


def test_a_diverged_trial_does_not_stop_the_sweep(make_sweep: Make, room: Room) -> None:
    """Here of one trial at a time, where two would fit."""
    space: Space = {"decoder.learning_rate": ("uniform", 1e38, 2e38)}
    sweep = make_sweep(space, 2, max_concurrent=1)
    assert room.cpus == 2
    running: list[int] = []
    found = run_sweep(
        sweep,
        room,
        lambda rows, _: running.append(sum(row["state"] in ("running", "waiting") for row in rows)),
        trial_closer(sweep.tracking_uri),
    )
    assert set(running) == {1}
    assert [row["state"] for row in found.rows] == ["done", "diverged"]
    assert found.best is not None and found.best["state"] == "done"
    bad = next(row for row in found.rows if row["state"] == "diverged")
    assert "not finite" in bad["diverged"] and bad["generation_perplexity"] == WORST["min"]
    assert "FAILED" in {run.info.status for run in children(sweep)}


def test_population_based_training_exploits(make_sweep: Make, room: Room, tmp_path: Path) -> None:
    """A clone goes on from its donor's weights, bit for bit, with mutated settings: computed again from the donor's
    checkpoint in this process, its next checkpoint is the same."""
    space: Space = {**RATES, "encoder.learning_rate": ("loguniform", 1e-6, 1e-2)}
    sweep = make_sweep(space, 6, {"iterations": 54}, scheduler="pbt")
    Watch.reported, Watch.ended, Watch.interrupted, Watch.selection = nothing, nothing, False, None
    results = make_tuner(sweep, make_trainable(sweep, room), 6).fit()  # run_sweep would delete donors' checkpoints
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
        assert weights(_next(task, tmp_path / "again")) == weights(clone)
        checked += 1
    assert checked
    mutated = [name for run in children(sweep) for name in run.data.metrics if name.startswith("pbt/")]
    assert "pbt/critic.learning_rate" in mutated


def _next(task: Task, folder: Path) -> Path:
    """The first checkpoint that comes out of a task."""
    import shutil

    class EnoughError(Exception):
        """Stops the worker in its first report."""

    def report(metrics: Metrics, checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint, folder)
        raise EnoughError

    with pytest.raises(EnoughError):
        work(task, Parallel(), report)
    return folder


def test_a_sweep_goes_on_from_state_that_is_missing_or_cut_off(make_sweep: Make, room: Room) -> None:
    """Ray alone would start a search without a space, and never say so. What is not Ray's it does not write."""
    sweep = make_sweep(RATES, 2, {"iterations": 6}, scheduler="asha")
    make_tuner(sweep, make_trainable(sweep, room), 2)  # and killed here: tuner.pkl alone
    (sweep.folder / "tuner.pkl").write_bytes(b"")
    before = run_sweep(sweep, room, nothing, nothing)
    assert [row["state"] for row in before.rows] == ["done"] * 2
    state = max(sweep.folder.glob("experiment_state-*.json"))
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    sweep.file.write_text("{}")
    written = sweep.file.stat().st_mtime_ns
    after = run_sweep(sweep, room, nothing, nothing)
    assert {row["trial"]: row["code.noise"] for row in after.rows} == {r["trial"]: r["code.noise"] for r in before.rows}
    assert [row["state"] for row in after.rows] == ["done"] * 2 and sweep.file.stat().st_mtime_ns == written
    assert set(json.loads((sweep.folder / "rungs.json").read_text())["rungs"]["6"]) == {r["trial"] for r in after.rows}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheduler", ["none", "pbt"])
def test_trials_of_two_workers(make_sweep: Make, room: Room, scheduler: str) -> None:
    """Four trials of two workers on two CPUs, two drivers at once: no deadlock, checkpoints arrive, clones are made."""
    sweep = make_sweep(RATES, 4, {"workers": 2}, scheduler=scheduler)
    found = run_sweep(sweep, room, nothing, trial_closer(sweep.tracking_uri))
    assert [row["state"] for row in found.rows] == ["done"] * 4
    assert found.best is not None
    folders = [Path(row["checkpoint"]) for row in found.rows]
    lineages = [(folder.parent.name, load_checkpoint(folder)[2]["lineage"]) for folder in folders]
    assert any(entry[0] != own for own, lineage in lineages for entry in lineage) == (scheduler == "pbt")
    assert not list((sweep.folder / "workers").iterdir())


def test_collect_puts_the_best_first_and_the_failed_last() -> None:
    class Result:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.metrics: Row = {}
            self.config: Row = {}
            self.best_checkpoints: list[Any] = []
            self.path, self.error = name, error

    found = collect([Result("b", RuntimeError()), Result("a")], "generation_perplexity", "min")
    assert [row["state"] for row in found.rows] == ["failed", "stopped"] and found.best is None


def test_tuples_come_back_as_tuples(tmp_path: Path) -> None:
    """From Ray's state and from a checkpoint, both JSON: so that they are found among the choices."""
    (tmp_path / "training.json").write_text(json.dumps({"lineage": [["ab", 0, {"critic.hidden": [300, 30]}]]}))
    (tmp_path / "manifest.json").touch()
    scored = SimpleNamespace(path=str(tmp_path)), {"generation_perplexity": 3.0}
    result: Row = {
        "metrics": {},
        "config": {"critic.hidden": [300]},
        "path": "ab",
        "error": None,
        "best_checkpoints": [],
    }
    results = [SimpleNamespace(**result), SimpleNamespace(**result | {"best_checkpoints": [scored]})]
    found = collect(results, "generation_perplexity", "min")
    assert [row["critic.hidden"] for row in found.rows] == [(300, 30), (300,)]
    figure = sweep_picture(
        {}, found.rows, "generation_perplexity", "ab", {"critic.hidden": ("choice", [(300,), (300, 300)])}
    )
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["(300,)", "(300, 300)", "(300, 30)"]


def evaluated(folder: Path, scores: list[float], **config: Any) -> Any:
    """What Ray Tune has of a trial with such evaluations: its settings were other ones at its beginning."""
    kept = []
    for i, score in enumerate(scores):
        checkpoint = folder / f"checkpoint_{i:06d}"
        checkpoint.mkdir(parents=True)
        lineage = [["donor", 0, {"code.noise": 0.5}], [folder.name, 6, {"code.noise": score}]]
        (checkpoint / "training.json").write_text(json.dumps({"lineage": lineage, "metrics": {"score": score}}))
        kept.append((SimpleNamespace(path=str(checkpoint)), {"score": score}))
    return SimpleNamespace(metrics={}, config=config, path=str(folder), error=None, best_checkpoints=kept)


@pytest.mark.parametrize(("mode", "rows"), [("min", [("b", 1.0), ("a", 2.0)]), ("max", [("a", 9.0), ("b", 5.0)])])
def test_of_a_trial_its_best_evaluation_and_of_trials_the_best_first(
    mode: str, rows: list[tuple[str, float]], tmp_path: Path
) -> None:
    """With the settings that it was trained with last."""
    results = [evaluated(tmp_path / name, scores) for name, scores in (("a", [2.0, 9, 3]), ("b", [4.0, 1, 5]))]
    found = collect(results, "score", mode)
    assert [(row["trial"], row["score"]) for row in found.rows] == rows and found.best == found.rows[0]
    assert all(row["code.noise"] == row["score"] for row in found.rows)


@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_what_is_kept_of_a_sweep_and_told(
    scheduler: str, make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs, no donor's checkpoints go; at its end, the two best and the last one of every trial stay. What
    has no effect beside a trial's other values is not told of it."""
    space: Space = {"critic.objective": ("choice", ["wgan-gp", "wgan-clip"]), "critic.penalty": ("uniform", 1.0, 9.0)}
    sweep = make_sweep({**RATES, **space}, 2, scheduler=scheduler)
    result = evaluated(tmp_path / "a", [1.0, 2.0, 3.0, 4.0])
    result.config = {"code.noise": 0.1, "critic.objective": "wgan-clip", "critic.penalty": 2.0}
    while_it_runs = list[Any]()

    def fit() -> list[Any]:
        while_it_runs.append(Watch.selection)
        return [result]

    monkeypatch.setattr(search, "make_trainable", lambda *_: None)
    monkeypatch.setattr(search, "make_tuner", lambda *_: SimpleNamespace(fit=fit))
    monkeypatch.setattr(type(sweep), "selection", ("score", "min"))
    found = run_sweep(sweep, Room(2, 0, 2, 0, attached=False), lambda *_: None, lambda *_: None)
    assert while_it_runs == [None if scheduler == "pbt" else ("score", "min")]
    assert [int(path.name[-6:]) for path in sorted((tmp_path / "a").iterdir())] == [0, 1, 3]
    assert "critic.penalty" not in found.rows[0] and found.rows[0]["code.noise"] == 1.0


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_a_search_begins_with_the_own_settings_and_follows_from_the_seed(
    kind: str, make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, asked = make_sweep(RATES, 3, {"seed": 7}, search=kind), dict[str, Any]()
    known: Any = basic_variant.BasicVariantGenerator if kind == "random" else optuna.OptunaSearch

    class Watched(known):  # type: ignore[misc]
        def __init__(self, points_to_evaluate: Any = None, *rest: Any, **named: Any) -> None:
            asked.update(named, own=points_to_evaluate)
            if kind == "random":
                super().__init__(points_to_evaluate, *rest, **named)
            else:
                super().__init__(points_to_evaluate=points_to_evaluate, **named)

    module = basic_variant if kind == "random" else optuna
    monkeypatch.setattr(module, known.__name__, Watched)
    monkeypatch.setattr(tune, "Tuner", lambda *_, **named: named["tune_config"])
    make_tuner(sweep, None, 1)
    assert asked["own"] == [own_values(RATES, sweep.experiment)]
    assert asked["random_state" if kind == "random" else "seed"] == 7


@pytest.mark.parametrize("interrupted", [None, signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_no_end_of_a_sweep_and_the_signals_are_whose_they_were(
    interrupted: signal.Signals | None, make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Tune itself comes back from Ctrl-C as if all were done."""

    def fit() -> list[Any]:
        Watch().setup()
        if interrupted is not None:
            signal.raise_signal(interrupted)
        return []

    monkeypatch.setattr(search, "make_trainable", lambda *_: None)
    monkeypatch.setattr(search, "make_tuner", lambda *_: SimpleNamespace(fit=fit))
    sweep, room = make_sweep(RATES, 2), Room(2, 0, 2, 0, attached=False)
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, nothing) for number in numbers]  # Tune's saves its state, and goes on to its end
    try:
        if interrupted is None:
            assert run_sweep(sweep, room, nothing, nothing).rows == []
        else:
            with pytest.raises(KeyboardInterrupt):
                run_sweep(sweep, room, nothing, nothing)
        assert [signal.getsignal(number) for number in numbers] == [nothing, nothing]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_sweep_that_is_gone_on_with_tries_again_what_has_failed(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = dict[str, Any]()

    def restore(path: str, **named: Any) -> Any:
        asked.update(named, path=path)
        return SimpleNamespace(fit=list)

    monkeypatch.setattr(search, "make_trainable", lambda *_: "trainable")
    monkeypatch.setattr(search, "make_tuner", lambda *_: None)
    monkeypatch.setattr(search, "can_go_on", lambda _: True)
    monkeypatch.setattr(tune.Tuner, "restore", restore)
    sweep = make_sweep(RATES, 2)
    run_sweep(sweep, Room(2, 0, 2, 0, attached=False), nothing, nothing)
    assert asked == {"path": str(sweep.folder), "trainable": "trainable", "resume_errored": True}


@pytest.mark.parametrize(
    ("workers", "attached", "takes"),
    [
        (1, False, {"cpu": 1.0, "gpu": 0.0}),
        (2, False, {"trial_driver": 1}),
        (2, True, {"memory": 2_000_000_000}),
    ],
)
def test_what_a_trial_takes_of_the_cluster(
    workers: int, attached: bool, takes: dict[str, float], make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver takes no CPU from its own workers, and nothing that a cluster of others does not have."""
    monkeypatch.setattr(tune, "with_resources", lambda _, resources: resources)
    sweep = make_sweep(RATES, 2, {"workers": workers})
    assert make_trainable(sweep, Room(8, 0, 8, 0, attached=attached)) == takes


@pytest.mark.parametrize(
    ("options", "at_a_time"),
    [({"search": "optuna"}, (3, None)), ({"search": "random"}, (None, 3)), ({"scheduler": "pbt"}, (None, 0))],
    ids=["optuna", "random", "pbt"],
)
def test_how_many_trials_run_at_a_time_and_how_often_each_is_tried(
    options: dict[str, str], at_a_time: tuple[int | None, int | None], make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a population all."""
    monkeypatch.setattr(tune, "Tuner", lambda *_, **named: SimpleNamespace(**named))
    tuner: Any = make_tuner(make_sweep(RATES, 5, {"max_failures": 7, "seed": 11}, **options), None, 3)
    algorithm = tuner.tune_config.search_alg
    assert (tuner.tune_config.max_concurrent_trials, getattr(algorithm, "max_concurrent", None)) == at_a_time
    assert tuner.run_config.failure_config.max_failures == 7
    assert tuner.tune_config.num_samples == 5
    assert random.random() == random.Random(11).random(), "population based training draws from these"
