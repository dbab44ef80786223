"""The measuring commands, run as a user runs them, small."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Model
from arae_core.runtime.precision import lstm_runs_in_bfloat16
from arae_core.settings import VocabularySettings
from arae_core.settings.tree import with_settings
from arae_core.training.checkpoint import save_checkpoint
from benchmarks import experiments, few_labels, kernels, memory, packing, sampling, workers
from tests.arae_core.small import WORDS, new_state, settings_of

ROOT = Path(__file__).parents[2]
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('ray', 'mlflow', 'datasets', 'optuna')))"
"""What is not there where the core runs alone."""
PARTS = ["--encoder.hidden", "13", "--decoder.hidden", "13", "--code.size", "13", "--generator.hidden", "7"]
SMALL = ["--config", "grammar", "--batch-size", "16", "--threads", "1", *PARTS]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_kernels_shows_what_takes_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main([*SMALL, "--iterations", "2", "--rows", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["device"], report["cuda_graphs"], len(report["rows"])) == ("cpu", "off", 3)
    shown = [row["ms"] for row in report["rows"]]
    assert shown == sorted(shown, reverse=True) and sum(shown) <= report["busy_ms"]
    assert "lstm" in " ".join(row["name"] for row in report["rows"]) or report["calls"] > 100
    assert "an iteration takes" in kernels.table(report)


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (kernels.main, ["--rows", "0"], "rows must be >= 1"),
        (packing.main, ["--trials", "1,none"], "trials must be numbers >= 1"),
        (packing.main, ["--trials", "0"], "trials must be numbers >= 1"),
        (packing.main, ["--seconds", "0"], "seconds must be > 0"),
        (memory.main, ["--threads", "0"], "threads must be >= 1"),
        (memory.main, ["--iterations", "7", "--log-every", "5"], "log_every must be <= half of 7 iterations"),
        (sampling.main, [], "model must be the folder of a model"),
        (sampling.main, ["--model", "nowhere"], "there is no checkpoint folder nowhere"),
        (sampling.main, ["--model", "nowhere", "--count", "0"], "count must be >= 1"),
        (sampling.main, ["--model", "nowhere", "--precisions", "float16"], "precisions must be one of"),
        (sampling.main, ["--model", "nowhere", "--temperatures", "0,-1"], "temperatures must be >= 0"),
        (sampling.main, ["--model", "nowhere", "--device", "tpu"], "device must be one of"),
        (workers.main, ["--worlds", "two"], "worlds must be numbers >= 1"),
        (workers.main, ["--rounds", "0"], "rounds must be >= 1"),
        (experiments.main, ["--on", "poetry"], "--on must be some of perplexity"),
        (experiments.main, ["--seconds", "0"], "seconds must be > 0"),
        (experiments.main, ["--corpus", "nowhere"], "--corpus must be a folder with a corpus.json"),
        (few_labels.main, ["--methods", "magic"], "--methods must be among"),
        (few_labels.main, ["--corpus", "nowhere"], "are given together"),
    ],
)
def test_mistakes_are_told_in_a_line(
    main: Callable[[Sequence[str]], int], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_trials_share_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert packing.main([*SMALL, "--trials", "1,2", "--seconds", "0.5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["trials"] for row in rows] == [1, 2] and rows[0]["ratio"] == 1
    assert all(0 < row["slowest"] <= row["iterations_per_second"] for row in rows)


@pytest.mark.slow
def test_workers_share_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert workers.main([*SMALL, "--iterations", "3", "--rounds", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["workers"], row["batch_size"]) for row in rows] == [(1, 16), (2, 16), (2, 32)]
    assert rows[0]["ratio"] == 1 and all(row["examples_per_second"] > 0 for row in rows)
    assert rows[0]["waiting"] == 0 and all(0 < row["waiting"] < row["exchange"] < row["ms"] for row in rows[1:])


@pytest.mark.skipif(not memory.STATUS.exists(), reason="reads /proc")
def test_memory_is_measured_with_freed_memory_kept_and_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main([*SMALL, "--iterations", "6", "--log-every", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["freed_memory"]
    assert list(found) == ["kept", "given back"]
    for each in found.values():
        assert list(each["resident_mb"]) == ["2", "4", "6"]
        assert all(100 < size < 5000 for size in each["resident_mb"].values())
        assert each["ms"] > 0 and each["system_ms"] >= 0 and each["faults"] >= 0  # of two clocks, one of few ticks


def test_figures_of_memory_are_of_the_iterations_after_the_first_report() -> None:
    rows = [
        {"step": 5, "seconds": 10.0, "faults": 1000, "system": 1.0, "resident_mb": 300.0},
        {"step": 10, "seconds": 10.5, "faults": 1010, "system": 1.01, "resident_mb": 310.0},
        {"step": 15, "seconds": 11.0, "faults": 1030, "system": 1.02, "resident_mb": 305.0},
    ]
    figures = memory.figures(rows)
    assert figures.pop("resident_mb") == {5: 300.0, 10: 310.0, 15: 305.0}
    assert figures == pytest.approx({"ms": 100.0, "system_ms": 2.0, "faults": 3.0})
    assert "3.0" in memory.table({"config": "x", "threads": 1, "freed_memory": {"kept": memory.figures(rows)}})


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_trained_model_is_timed_while_it_writes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = new_state(with_settings(settings_of(kind), {"precision": "float32"}))
    words = Vocabulary.train([" ".join(map(str, WORDS))], VocabularySettings(tokenizer="spaces"))
    saved = save_checkpoint(tmp_path / "model", state, words if kind == "text" else None)
    options = ["--model", str(saved), "--count", "17", "--threads", "1", "--precisions", "float32,bfloat16"]
    assert sampling.main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    drawn = [(row["precision"], row["temperature"]) for row in report["rows"]]
    expected = [(name, t) for name in ("float32", "bfloat16") for t in (0.0, 1.0)]
    assert drawn == (expected if kind == "image" or lstm_runs_in_bfloat16("cpu") else expected[:2])
    assert all(row["per_second"] == pytest.approx(17 / row["seconds"]) for row in report["rows"])
    written = Model.load(saved).generate(17, temperature=1.0)
    assert report["rows"][1]["distinct"] == len({str(each) for each in written}) / 17
    assert ("words" in report["rows"][0]) == (kind == "text")
    assert sampling.table(report).count("\n") == 1 + len(report["rows"])


def test_experiments_run_where_only_the_core_is(tmp_path: Path) -> None:
    """Data are prepared with everything, the rest runs without Ray, MLflow and datasets."""
    data = ["--config", "grammar-sentiment", "--data.size", "900", "--threads", "1", *PARTS]
    assert experiments.main([*data, "--only-prepare", "--storage", str(tmp_path)]) == 0
    (folder,) = (path.parent for path in tmp_path.glob("data/*/corpus.json"))
    words = [*data, "--corpus", str(folder), "--on", "latent,robustness,transfer", "--out", str(tmp_path / "out")]
    words += ["--iterations", "4", "--evaluate-every", "2", "--samples", "20", "--keep-samples", "5", "--called", "it"]
    program = f"{BLOCKED}; from benchmarks.experiments import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "out" / "it.json").read_text())
    assert [figures["step"] for figures in found["evaluations"]] == [2, 4] and "failed" not in found
    assert found["robustness"][0]["k=0"] > 0 and found["latent"][0]["norm c"] == pytest.approx(1)
    assert {row["model"] for row in found["transfer"]} == {"copy of the input", "it"}
    assert len((tmp_path / "out" / "it-samples.txt").read_text().splitlines()) == 5
    assert (tmp_path / "out" / "it" / "manifest.json").is_file()
    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"it-latent", "it-robustness", "it-transfer"}


def test_few_labels_by_the_core_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "grammar-entailment", "--data.size", "900", "--threads", "1", *PARTS, "--head.hidden", "7"]
    words += ["--storage", str(tmp_path), "--iterations", "6", "--evaluate-every", "2", "--labels", "30"]
    assert few_labels.main([*words, "--methods", "supervised,arae", "--out", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["method"], row["labels"], row["seed"]) for row in rows] == [("supervised", 30, 0), ("arae", 30, 0)]
    assert all(0 <= row["test"] <= 100 for row in rows)
    assert "accuracy on test" in capsys.readouterr().out
