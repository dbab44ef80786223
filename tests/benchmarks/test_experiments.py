"""The paper's experiments by the core alone: what was found is kept, whatever becomes of the rest."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
import torch

from benchmarks.experiments import main
from pipelines.corpora.grammar import sample

ROOT = Path(__file__).parents[2]
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('ray', 'mlflow', 'datasets', 'optuna')))"
PARTS = ["--encoder.hidden=13", "--decoder.hidden=13", "--code.size=13", "--generator.hidden=7", "--threads=1"]
SMALL = ["--config=grammar-sentiment", "--data.size=900", "--samples=20", "--keep-samples=5", *PARTS]
Experiments = Callable[..., tuple[int, Path, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("storage")
    assert main([*SMALL, "--only-prepare", "--storage", str(storage)]) == 0
    (folder,) = (path.parent for path in storage.glob("data/*/corpus.json"))
    return folder


@pytest.fixture
def experiments(corpus: Path, tmp_path: Path) -> Experiments:
    """Run the command on the corpus: its status, the folder of what it found, and the JSON in there."""

    def call(*words: str) -> tuple[int, Path, dict[str, Any]]:
        status = main([*SMALL, "--corpus", str(corpus), "--out", str(tmp_path), "--called", "it", *words])
        file = tmp_path / "it.json"
        return status, tmp_path, json.loads(file.read_text()) if file.exists() else {}

    return call


def references(folder: Path) -> list[str]:
    """Write files of people's rewritings and another system's outputs; the flags that name them."""
    sad, happy = sample(7, 3, sentiment="negative"), sample(7, 4, sentiment="positive")
    people = {"source": sad, "label": [0] * 7, "reference_0": happy, "reference_1": happy}
    others = {"system": ["perfect"] * 7, "source": sad, "output": happy}
    for name, columns in (("people", people), ("others", others)):
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")
    return ["--references", str(folder / "people.parquet"), "--outputs", str(folder / "others.parquet")]


def test_references_are_read_where_there_is_no_datasets(corpus: Path, tmp_path: Path) -> None:
    words = [*SMALL, "--corpus", str(corpus), "--out", str(tmp_path), "--called", "it", "--on", "transfer"]
    words += [*references(tmp_path), "--iterations=4", "--evaluate-every=2", "--contrasts=0,0.3", "--json"]
    program = f"{BLOCKED}; from benchmarks.experiments import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found == json.loads((tmp_path / "it.json").read_text())
    rows = {row["model"]: row for row in found["transfer"]}
    assert set(rows) == {"copy of the input", "perfect", "it"}
    assert rows["perfect"]["bleu"] == pytest.approx(100) and rows["perfect"]["accuracy"] == 100
    assert [row["contrast"] for row in found["contrasts"]] == [0, 0.3]
    lines = [line.split("\t") for line in (tmp_path / "it-transfer.txt").read_text().splitlines()]
    assert [source for source, _ in lines] == sample(7, 3, sentiment="negative")


def test_a_kept_model_is_evaluated_again(experiments: Experiments, tmp_path: Path) -> None:
    _, folder, first = experiments("--on=robustness", "--iterations=4", "--evaluate-every=2")
    again = ("--on=robustness", "--trained", str(folder / "it"), "--called", "again")
    assert experiments(*again, "--temperature=1")[0] == 0
    second = json.loads((folder / "again.json").read_text())
    values = [[value for key, value in found["robustness"][0].items() if key != "model"] for found in (first, second)]
    assert values[0] == values[1] and (first["split"], second["split"]) == ("validation", "validation")
    assert "evaluations" not in second and not (folder / "again").exists() and second["settings"]["temperature"] == 1
    samples = [(folder / f"{name}-samples.txt").read_text() for name in ("it", "again")]
    assert samples[0] != samples[1]
    assert experiments(*again, "--split=test")[0] == 0
    assert json.loads((folder / "again.json").read_text())["robustness"] != second["robustness"]


def test_what_fails_is_told_and_the_rest_goes_on(
    experiments: Experiments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"no Parquet")
    words = ("--on=transfer,robustness", "--iterations=2", "--references", str(bad))
    status, folder, found = experiments(*words)
    assert status == 1 and set(found["failed"]) == {"outputs", "transfer"}
    assert "bad.parquet cannot be read as parquet" in found["failed"]["transfer"]
    assert "transfer failed: ValueError" in capsys.readouterr().err
    assert found["robustness"][0]["k=0"] > 0 and (folder / "it-samples.txt").is_file()
    assert "== robustness" in (folder / "it-text.txt").read_text()


def test_training_that_diverges_leaves_what_was_best(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    from arae_core import algorithm

    reconstruct = algorithm.reconstruct

    def breaking(state: Any, *arguments: Any) -> Any:
        scalars = reconstruct(state, *arguments)
        return scalars if state.step < 3 else scalars | {"reconstruction_loss": torch.tensor(float("nan"))}

    monkeypatch.setattr(algorithm, "reconstruct", breaking)
    status, _, found = experiments("--on=robustness", "--iterations=6", "--evaluate-every=2")
    assert status == 0 and "reconstruction_loss not finite" in found["diverged"]
    assert (found["best"], found["iterations"]) == (2, 2) and found["robustness"][0]["k=0"] > 0


def test_training_ends_in_time_with_an_evaluation(experiments: Experiments, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--on=robustness", "--iterations=90", "--evaluate-every=80", "--log-every=2", "--seconds=1e-9")
    status, _, found = experiments(*words)
    assert status == 0 and found["iterations"] == 2
    assert [figures["step"] for figures in found["evaluations"]] == [found["best"]] == [2]
    assert "2/90" in capsys.readouterr().out


def test_perplexity_is_last(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes minutes: whoever has no time for it keeps the others."""
    from pipelines.evaluation import tasks

    asked: list[str] = []

    def noted(name: str) -> Callable[..., tasks.Outcome]:
        def task(*_: Any) -> tasks.Outcome:
            asked.append(name)
            return tasks.Outcome([])

        return task

    for name in ("perplexity", "latent", "robustness"):
        monkeypatch.setitem(tasks.TASKS, name, noted(name))
    assert experiments("--on=perplexity,latent,robustness", "--iterations=2")[0] == 0
    assert asked == ["latent", "robustness", "perplexity"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=mnist"], "kind must be text"),
        (["--on=transfer", "--config=grammar"], "transfer needs --data.label"),
        (["--outputs=others.csv"], "--outputs needs --references"),
        (["--references=none.csv"], "--references none.csv: there is no such file"),
        (["--trained=none"], "--trained must be a folder with a model, as --out has them; got none"),
        (["--split=train"], "split must be one of validation, test, got 'train'"),
        (["--contrasts=-1"], "--contrast must be from 0 to "),
        (["--count=1"], "count must be >= 2"),
        (["--config=grammar"], "must be one that was prepared with the --data.label given"),
    ],
)
def test_mistakes_cost_a_line(
    words: list[str], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = [] if any(word.startswith("--config") for word in words) else ["--config=grammar-sentiment"]
    assert main([*config, *words, "--corpus", str(corpus), "--out", str(tmp_path / "out")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out").exists()
