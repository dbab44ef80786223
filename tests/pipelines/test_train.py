"""train.py end to end: a model used from the registry, and what MLflow gets of a training that diverges."""

import io
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipelines import transfer
from pipelines.runtime import cluster
from pipelines.train import main
from tests.pipelines.small import SMALL

ROOT = Path(__file__).resolve().parents[2]


def spelled(settings: dict[str, Any]) -> list[str]:
    """Return settings as words of a command line."""
    words = []
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += ["--" + (name if "." in name else name.replace("_", "-")), text]
    return words


def command(file: str, storage: Path, tracking_uri: str, *words: str, **changes: Any) -> list[str]:
    shared = ["--storage", str(storage), "--tracking-uri", tracking_uri, "--json"]
    return [sys.executable, str(ROOT / "pipelines" / file), *spelled({**SMALL, **changes}), *shared, *words]


def wait_for(condition: Any, process: "subprocess.Popen[str]", seconds: float = 1000) -> None:
    """Wait until the condition holds; fail if the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_model_with_an_attribute_transfers_from_the_registry(
    tmp_path: Path,
    tracking_uri: str,
    room: cluster.Room,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "running", lambda: nullcontext(room))
    given = ["--config", "grammar-sentiment", "--encoder.marker_ratio", "5"]
    given += ["--encoder.weight_decay", "0.1", "--cooldown", "0.5"]
    words = command("train.py", tmp_path, tracking_uri, *given, **{"iterations": 40})[2:]
    status, out = main(words), capsys.readouterr().out
    assert status == 0 and "another class" in out and "transfer accuracy" in out
    results = json.loads(out.splitlines()[-1])
    assert results["model"] == "arae-grammar-sentiment" and "transfer_score" in results["metrics"]
    sentences = "a sad man sleeps .\na rude man sleeps .\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sentences.encode())))
    wanted = ["--model", "models:/arae-grammar-sentiment@champion", "--to", "positive", "--pairs"]
    assert transfer.main([*wanted, "--tracking-uri", tracking_uri]) == 0
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [source for source, _ in said] == sentences.splitlines()
    assert said[0][1] == said[1][1], "the attribute's markers are hidden"


@pytest.mark.parametrize("checkpoint", [None, "best"])
def test_a_training_that_diverges_fails_and_mlflow_gets_its_points(
    checkpoint: str | None,
    tmp_path: Path,
    tracking_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker, which could not reach MLflow, left a point to send."""
    from pipelines.tracking.store import connect
    from pipelines.training import trainer

    room, best = cluster.Room(2, 0, 2, 0, attached=False), Path(checkpoint) if checkpoint else None
    result = trainer.TrainingResult({}, best, "it diverged", [["loss", 0.5, 1000, 6]])
    monkeypatch.setattr(cluster, "running", lambda: nullcontext(room))
    monkeypatch.setattr(cluster, "this_machine", lambda: room)
    monkeypatch.setattr(trainer, "fit", lambda *_: result)
    words = command("train.py", tmp_path, tracking_uri, "--run-name", "mine")[2:]
    assert main(words) == 1
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "it diverged; " in error and ("best checkpoint is best" in error) == bool(checkpoint)
    client, file = connect(tracking_uri), tmp_path / "trainings" / "mine" / "run.json"
    run_id = json.loads(file.read_text())["run_id"]
    assert client.get_run(run_id).info.status == "FAILED"
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "loss")] == [(6, 0.5)]
