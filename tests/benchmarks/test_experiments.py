"""The paper's experiments by the core alone: every result is saved, also when a later step fails."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
import torch

from arae_core import algorithm
from benchmarks.experiments import main
from benchmarks.harness import ROOT
from pipelines.corpora.grammar import sample
from pipelines.evaluation import tasks

BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('ray', 'mlflow', 'datasets', 'optuna')))"
"""Packages that a machine with the core alone does not have."""
PARTS = ["--encoder.hidden=13", "--decoder.hidden=13", "--code.size=13", "--generator.hidden=7", "--threads=1"]
SMALL = ["--config=grammar-sentiment", "--data.size=900", "--samples=20", "--keep-samples=5", *PARTS]
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("storage")
    assert main([*SMALL, "--only-prepare", "--storage", str(storage)]) == 0
    (folder,) = (path.parent for path in storage.glob("data/*/corpus.json"))
    return folder


@pytest.fixture
def experiments(corpus: Path, tmp_path: Path) -> Run:
    """Run the command on the corpus; return its status and the JSON that it saved in tmp_path."""

    def call(*words: str) -> tuple[int, dict[str, Any]]:
        status = main([*SMALL, "--corpus", str(corpus), "--out", str(tmp_path), "--called", "it", *words])
        return status, json.loads((tmp_path / "it.json").read_text())

    return call


def test_everything_runs_without_ray_mlflow_and_datasets(corpus: Path, tmp_path: Path) -> None:
    sad, happy = sample(7, 3, sentiment="negative"), sample(7, 4, sentiment="positive")
    people = {"source": sad, "label": [0] * 7, "reference_0": happy, "reference_1": happy}
    others = {"system": ["perfect"] * 7, "source": sad, "output": happy}
    for name, columns in (("references", people), ("outputs", others)):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
    words = [*SMALL, "--corpus", str(corpus), "--out", str(tmp_path), "--called=it", "--iterations=4", "--json"]
    words += ["--on=latent,robustness,transfer", "--evaluate-every=2", "--contrasts=0,0.3"]
    words += [f"--{name}={tmp_path / name}.parquet" for name in ("references", "outputs")]
    program = f"{BLOCKED}; from benchmarks.experiments import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found == json.loads((tmp_path / "it.json").read_text()) and "failed" not in found
    assert [figures["step"] for figures in found["evaluations"]] == [2, 4]
    assert found["robustness"][0]["k=0"] > 0 and found["latent"][0]["norm c"] == pytest.approx(1)
    rows = {row["model"]: row for row in found["transfer"]}
    assert set(rows) == {"copy of the input", "perfect", "it"}
    assert rows["perfect"]["bleu"] == pytest.approx(100) and rows["perfect"]["accuracy"] == 100
    assert [row["contrast"] for row in found["contrasts"]] == [0, 0.3]
    lines = [line.split("\t") for line in (tmp_path / "it-transfer.txt").read_text().splitlines()]
    assert [source for source, _ in lines] == sad
    assert len((tmp_path / "it-samples.txt").read_text().splitlines()) == 5
    assert {path.stem for path in tmp_path.glob("*.png")} == {"it-latent", "it-robustness", "it-transfer"}


def test_a_saved_model_is_evaluated_again(experiments: Run, tmp_path: Path) -> None:
    _, first = experiments("--on=robustness", "--iterations=4", "--evaluate-every=2")
    again = ("--on=robustness", "--trained", str(tmp_path / "it"), "--called", "again")
    assert experiments(*again, "--temperature=1")[0] == 0
    second = json.loads((tmp_path / "again.json").read_text())
    values = [[value for key, value in found["robustness"][0].items() if key != "model"] for found in (first, second)]
    assert values[0] == values[1] and (first["split"], second["split"]) == ("validation", "validation")
    assert "evaluations" not in second and not (tmp_path / "again").exists() and second["settings"]["temperature"] == 1
    samples = [(tmp_path / f"{name}-samples.txt").read_text() for name in ("it", "again")]
    assert samples[0] != samples[1]
    assert experiments(*again, "--split=test")[0] == 0
    assert json.loads((tmp_path / "again.json").read_text())["robustness"] != second["robustness"]


def test_a_step_that_fails_does_not_stop_the_others(
    experiments: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"no Parquet")
    status, found = experiments("--on=transfer,robustness", "--iterations=2", "--references", str(bad))
    assert status == 1 and set(found["failed"]) == {"outputs", "transfer"}
    assert "bad.parquet" in found["failed"]["transfer"]
    assert "transfer failed: ValueError" in capsys.readouterr().err
    assert found["robustness"][0]["k=0"] > 0 and (tmp_path / "it-samples.txt").is_file()
    assert "== robustness" in (tmp_path / "it-text.txt").read_text()


def test_training_that_diverges_keeps_the_best_evaluation(experiments: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = algorithm.reconstruction_step

    def diverging(state: Any, *arguments: Any) -> Any:
        scalars = step(state, *arguments)
        return scalars if state.step < 3 else scalars | {"reconstruction_loss": torch.tensor(float("nan"))}

    monkeypatch.setattr(algorithm, "reconstruction_step", diverging)
    status, found = experiments("--on=robustness", "--iterations=6", "--evaluate-every=2")
    assert status == 0 and "reconstruction_loss" in found["diverged"]
    assert (found["best"], found["iterations"]) == (2, 2) and found["robustness"][0]["k=0"] > 0


def test_training_stops_in_time_after_an_evaluation(experiments: Run) -> None:
    words = ("--on=robustness", "--iterations=90", "--evaluate-every=80", "--log-every=2", "--seconds=1e-9")
    status, found = experiments(*words)
    assert status == 0 and found["iterations"] == 2
    assert [figures["step"] for figures in found["evaluations"]] == [found["best"]] == [2]


def test_perplexity_runs_last_because_it_takes_longest(experiments: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("perplexity", "latent", "robustness"):
        monkeypatch.setitem(tasks.TASKS, name, lambda *_: tasks.TaskResult([]))
    _, found = experiments("--on=perplexity,latent,robustness", "--iterations=2")
    assert [name for name in found if name in tasks.TASKS] == ["latent", "robustness", "perplexity"]


def test_a_corpus_prepared_without_the_attribute_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config=grammar", "--corpus", str(corpus), "--out", str(tmp_path / "out")]) == 2
    assert "--data.label" in capsys.readouterr().err and not (tmp_path / "out").exists()
