"""The benchmark of a job's cost: its own half here, the whole of it with a cluster."""

import json
from pathlib import Path

import pytest

from benchmarks.overhead import main

SMALL = ["--data.size", "600", "--iterations", "4", "--evaluate-every", "2", "--samples", "20", "--critic.steps", "1"]


def test_the_core_alone_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--alone", "--storage", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    assert main([*SMALL, "--alone", "--trials", "3", "--json", "--storage", str(tmp_path)]) == 0
    seconds = json.loads(capsys.readouterr().out)["seconds"]
    assert len(seconds) == 3 and min(seconds) > 0


@pytest.mark.slow
def test_a_sweep_beside_its_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--trials", "2", "--json", "--storage", str(tmp_path)]) == 0
    said, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert said.startswith("a trial takes") and len(report["trials"]) == len(report["training"]) == 2
    assert min(*report["trials"], report["start"], report["end"]) > 0


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = [*SMALL, "--storage", str(tmp_path)]
    assert main([*shared, "--trials", "1"]) == 2
    assert "trials must be >= 2" in capsys.readouterr().err
    assert main([*shared, "--rounds", "0"]) == 2
    assert "rounds must be >= 1" in capsys.readouterr().err
    assert main([*shared, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]) == 2
    assert "tracking-uri must be a server's http://HOST:PORT" in capsys.readouterr().err
