"""The cost of a sweep to its driver."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness
from benchmarks.sweep_cost import draw, main, per_trial
from tests.benchmarks.conftest import Report


def sweep(trials: int = 40) -> dict[str, Any]:
    """A driver of 10 MB that grows by 0.5 MB per trial; a trial has two reports and takes MLflow 30 ms."""
    samples = [
        {
            **{"trials": n, "memory": 10 + 0.5 * n, "seconds": 3.0 * n, "cpu": 1 + 0.1 * n, "prune": 0.0},
            **{"rows": 0.002 * n, "table": 0.004 * n, "mlflow": 0.03 * n, "snapshot": 0.01 * n},
            **{"rows calls": 2 * n, "mlflow calls": 3 * n, "snapshot calls": n // 2},
        }
        for n in range(trials // 10, trials + 1, trials // 10)
    ]
    about = {"trials": trials, "scheduler": "none", "seconds": 180.0, "state_bytes": 4000}
    return about | {"samples": samples, "mlflow_ms": {"start": 1.0, "evaluation": 2.0, "end": 3.0}}


def test_figures_and_picture(tmp_path: Path) -> None:
    figures = per_trial(sweep())
    expected = {
        **{"minutes": 3, "s/trial": 3, "MB": 30, "kB/trial": 500, "CPU ms/report": 50, "MLflow ms/trial": 30},
        **{"rows ms/report": 1, "table ms/report": 2, "ms/snapshot": 20, "state kB": 4, "MLflow start ms": 1},
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    draw([sweep(10), sweep(40)], tmp_path / "new" / "cost.png")
    assert (tmp_path / "new" / "cost.png").stat().st_size > 1000


def test_each_sweep_has_a_process_of_its_own(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(title: str, command: list[str], **_: Any) -> dict[str, Any]:
        return {"sweeps": [sweep(int(command[-2]))]}

    monkeypatch.setattr(harness, "last_json", run)
    assert [found["trials"] for found in report(main, ["--trials", "10,40"])["sweeps"]] == [10, 40]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_is_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, str(harness.ROOT / "benchmarks" / "sweep_cost.py"), "--trials=3", "--scheduler=asha"]
    command += [f"--picture={tmp_path / 'cost.png'}", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    (found,) = harness.last_json("the sweep", command, cwd=tmp_path, env=environment)["sweeps"]
    assert [sample["trials"] for sample in found["samples"]] == [1, 2, 3]
    last = found["samples"][-1]
    assert last["rows calls"] >= 3 and last["memory"] > 50
    assert min(last[part] for part in ("rows", "table", "mlflow", "snapshot")) > 0
    assert per_trial(found)["MLflow start ms"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.name != "scratch"] == ["cost.png"]
    assert not list((tmp_path / "scratch").glob("*/sweeps"))
