"""The callback of Ray Tune: rows of trials, copies of Ray's state, pruned checkpoints."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.sweeps import tune_callback
from pipelines.sweeps.tune_callback import SweepCallback, TrialRow, prune_checkpoints


def test_a_report_changes_one_row_and_all_states(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trial:
        def __init__(self, number: int) -> None:
            self.trial_id, self.status, self.config = f"ab_{number:05d}", "PENDING", {"critic.steps": number}
            self.run_metadata = SimpleNamespace(last_result={})

        @property
        def last_result(self) -> None:
            raise AssertionError("would wait for the trial's process")

    made: list[str] = []
    shown: list[list[tuple[Any, ...]]] = []
    original = tune_callback.row_of

    def row(trial: Any, result: dict[str, Any]) -> TrialRow:
        made.append(trial.trial_id[-1])
        return original(trial, result)

    def reported(rows: list[TrialRow], news: TrialRow) -> None:
        assert news in rows
        shown.append([(row["state"], row.get("step")) for row in rows])

    monkeypatch.setattr(tune_callback, "row_of", row)
    for name, value in {"rows": {}, "reported": reported, "selection": None}.items():
        monkeypatch.setattr(SweepCallback, name, value, raising=False)
    trials = [Trial(i) for i in range(3)]
    trials[1].status = "RUNNING"
    SweepCallback().on_trial_result(0, trials, trials[1], {"step": 6, "end": 6})
    trials[1].status, trials[2].status = "TERMINATED", "RUNNING"
    SweepCallback().on_trial_result(1, trials, trials[2], {"step": 2, "end": 6})
    assert shown == [
        [("waiting", None), ("running", 6), ("waiting", None)],
        [("waiting", None), ("done", 6), ("running", 2)],
    ]
    assert made == ["1", "0", "2", "2"]


def test_an_ended_trial_passes_on_unsent_points_and_frees_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ray.tune.trainable.metadata import _TrainingRunMetadata

    (tmp_path / "checkpoint_000000").mkdir()
    points = [["loss", 0.5, 1000, 24]]
    (tmp_path / "checkpoint_000000" / "training.json").write_text(json.dumps({"unsent": points}))
    (tmp_path / "lives.json").write_text(json.dumps({"lives": [[900, "first"]]}))
    metadata: Any = _TrainingRunMetadata()
    metadata.update_metric("generation_perplexity", 30, step=1)
    trial = SimpleNamespace(trial_id="ab_00000", status="RUNNING", config={}, run_metadata=metadata)
    trial.last_result = {"step": 6, "end": 6, "generation_perplexity": 30.0}
    trial.storage = SimpleNamespace(trial_fs_path=str(tmp_path))
    ended: list[TrialRow] = []
    monkeypatch.setattr(SweepCallback, "ended", ended.append, raising=False)
    SweepCallback().on_trial_complete(0, [trial], trial)
    SweepCallback().on_trial_error(0, [trial], trial)
    assert [row["state"] for row in ended] == ["done", "failed"]
    for row in ended:
        assert (row["generation_perplexity"], row["unsent"], row["lineages"]) == (30.0, points, [(900, "first")])
    assert not metadata.metric_analysis and not metadata.metric_n_steps


def test_pruning_keeps_the_best_and_the_newest(tmp_path: Path) -> None:
    for i, value in enumerate([5.0, 1.0, 4.0, 2.0, 6.0, 7.0, 8.0]):
        (tmp_path / f"checkpoint_{i:06d}").mkdir()
        if i < 6:  # the last one is incomplete
            content = json.dumps({"metrics": {"generation_perplexity": value}})
            (tmp_path / f"checkpoint_{i:06d}" / "training.json").write_text(content)
    prune_checkpoints(tmp_path, "generation_perplexity", "min", newest=3)
    assert [int(path.name[-1]) for path in sorted(tmp_path.iterdir())] == [1, 3, 4, 5, 6]
    prune_checkpoints(tmp_path, "generation_perplexity", "max", newest=1)
    assert [int(path.name[-1]) for path in sorted(tmp_path.iterdir())] == [4, 5, 6]


def test_rays_state_is_copied_every_30_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And at the first step, after the files of the session before are deleted."""
    clock, happened = [1000.0], list[tuple[str, float]]()
    monkeypatch.setattr(tune_callback, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(tune_callback, "back_up", lambda *folders: happened.append((f"copied {folders}", clock[0])))
    monkeypatch.setattr(tune_callback, "clear_staging", lambda folder: happened.append((f"cleared {folder}", clock[0])))
    monkeypatch.setattr(SweepCallback, "copied", None)
    storage = SimpleNamespace(experiment_driver_staging_path=tmp_path / "a", experiment_fs_path=tmp_path / "b")
    trials = [SimpleNamespace(storage=storage)]
    for seconds in (0, 7, 29, 31, 50, 61, 63):
        clock[0] = 1000.0 + seconds
        SweepCallback().on_step_begin(0, trials)
        SweepCallback().on_step_end(0, trials)
    copied = f"copied {(tmp_path / 'a', tmp_path / 'b')}"
    assert happened == [(f"cleared {tmp_path / 'a'}", 1000.0), (copied, 1000.0), (copied, 1031.0), (copied, 1063.0)]


@pytest.mark.parametrize(
    ("status", "result", "state"),
    [
        ("PENDING", {}, "waiting"),
        ("RUNNING", {"step": 24, "end": 24}, "running"),
        ("PAUSED", {"step": 6, "end": 24}, "paused"),
        ("ERROR", {"step": 6, "end": 24}, "failed"),
        ("TERMINATED", {"step": 6, "end": 24}, "stopped"),
        ("TERMINATED", {"step": 24, "end": 24}, "done"),
        ("TERMINATED", {"step": 24, "end": 24, "diverged": "loss is not finite"}, "diverged"),
    ],
)
def test_the_state_of_a_trial(status: str, result: dict[str, Any], state: str) -> None:
    trial = SimpleNamespace(trial_id="ab_00000", status=status, config={"critic.hidden": [3, 5]})
    assert tune_callback.row_of(trial, result) == {
        **result,
        "critic.hidden": (3, 5),
        "trial": "ab_00000",
        "state": state,
    }
