"""The measuring commands at a small size, and the errors of all of them."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Model
from arae_core.runtime.precision import lstm_runs_in_bfloat16
from arae_core.settings import VocabularySettings
from arae_core.settings.tree import with_settings
from arae_core.training.checkpoint import save_checkpoint
from benchmarks import few_labels, harness, kernels, memory, overhead, packing, sampling, workers
from tests.arae_core.small import WORDS, new_state, settings_of
from tests.benchmarks.conftest import Report

PARTS = ["--encoder.hidden", "13", "--decoder.hidden", "13", "--code.size", "13", "--generator.hidden", "7"]
SMALL = ["--config", "grammar", "--batch-size", "16", "--threads", "1", *PARTS]
TRAINING = ["--data.size=600", "--iterations=4", "--evaluate-every=2", "--samples=20", *PARTS]
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
FAILING, PRINTING = (f'{sys.executable} -c "{code}"' for code in ("raise SystemExit('no data here')", "print(1)"))


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("kernels", "--rows=0", "rows must be >= 1"),
        ("packing", "--trials=0", "trials must be >= 1"),
        ("packing", "--seconds=0", "seconds must be > 0"),
        ("memory", "--threads=0", "threads must be >= 1"),
        ("memory", "--iterations=7 --log-every=5", "log_every must be <= half of 7 iterations"),
        ("sampling", "", "--model is required"),
        ("sampling", "--model=nowhere", "there is no checkpoint folder nowhere"),
        ("sampling", "--model=nowhere --count=0", "count must be >= 1"),
        ("sampling", "--model=nowhere --precisions=float16", "precisions must be one of"),
        ("sampling", "--model=nowhere --temperatures=0,-1", "temperatures must be >= 0"),
        ("workers", "--worlds=0,1", "worlds must be >= 1"),
        ("few_labels", "--methods=magic", "--methods must be among"),
        ("few_labels", "--corpus=nowhere", "--corpus and --labelled"),
        ("floor", "--data=missing.txt", "data must be a text file"),
        pytest.param("floor", "--device=cuda", "device must be cpu or auto", marks=NO_GPU),
        ("scaling", "--vary=batch", "vary must be one of batch_size, hidden"),
        ("scaling", "--config=digits", "kind must be text"),
        ("scaling", "--most-seconds=0", "most_seconds must be > 0"),
        ("scaling", "--warm-up=0", "warm_up must be >= 1"),
        ("scaling", "--warm-up=9 --iterations=5", "warm_up must be <= iterations (5), got 9"),
        ("sweep_cost", "--trials=1", "trials must be >= 2, got 1"),
        ("overhead", "--trials=1", "trials must be >= 2"),
        ("overhead", "--tracking-uri=sqlite:///mlflow.db", "tracking-uri must be"),
        ("throughput", "--config=digits --data=x", "data must not be given for images"),
        ("throughput", ["--peer=no-such-command"], "peer must be a command that can be run"),
        ("throughput", ["--peer", FAILING], "no data here"),
        ("throughput", ["--peer", PRINTING], "peer must print a JSON object"),
        ("throughput", ["--peer='"], "peer must be a command"),
        ("experiments", "--on=poetry", "--on must be some of perplexity"),
        ("experiments", "--seconds=0", "seconds must be > 0"),
        ("experiments", "--count=1", "count must be >= 2"),
        ("experiments", "--corpus=nowhere", "--corpus must be a folder with a corpus.json"),
        ("experiments", "--config=mnist", "kind must be text"),
        ("experiments", "--on=transfer", "transfer needs --data.label"),
        ("experiments", "--config=yelp --outputs=others.csv", "--outputs needs --references"),
        ("experiments", "--config=yelp --references=none.csv", "--references none.csv"),
        ("experiments", "--trained=none", "--trained must be"),
        ("experiments", "--config=yelp --contrasts=-1", "--contrast must be from 0 to "),
    ],
)
def test_errors_take_one_line_and_status_2(
    script: str, words: str | list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words.split() if isinstance(words, str) else words
    assert importlib.import_module(f"benchmarks.{script}").main([*given, "--storage", str(tmp_path)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert not list(tmp_path.iterdir()), "before any data are prepared"


def test_kernels_lists_what_takes_most_time(report: Report) -> None:
    found = report(kernels.main, [*SMALL, "--iterations", "2", "--rows", "3"])
    assert (found["device"], found["cuda_graphs"], len(found["rows"])) == ("cpu", "off", 3)
    shown = [row["ms"] for row in found["rows"]]
    assert shown == sorted(shown, reverse=True) and sum(shown) <= found["busy_ms"]
    assert "lstm" in " ".join(row["name"] for row in found["rows"]) or found["calls"] > 100
    assert "an iteration takes" in kernels.table(found)


@pytest.mark.slow
def test_packing_runs_trials_at_the_same_time(report: Report) -> None:
    rows = report(packing.main, [*SMALL, "--trials", "1,2", "--seconds", "0.5"])["rows"]
    assert [row["trials"] for row in rows] == [1, 2] and rows[0]["ratio"] == 1
    assert all(0 < row["slowest"] <= row["iterations_per_second"] for row in rows)


@pytest.mark.slow
def test_workers_train_one_model(report: Report) -> None:
    rows = report(workers.main, [*SMALL, "--iterations", "3", "--rounds", "1"])["rows"]
    assert [(row["workers"], row["batch_size"]) for row in rows] == [(1, 16), (2, 16), (2, 32)]
    assert rows[0]["ratio"] == 1 and all(row["examples_per_second"] > 0 for row in rows)
    assert rows[0]["waiting"] == 0 and all(0 < row["waiting"] < row["exchange"] < row["ms"] for row in rows[1:])


def test_processes_are_new_and_their_errors_arrive() -> None:
    (process,) = harness.in_processes(os.getpid, [()])
    assert process != os.getpid()
    with pytest.raises(ValueError, match="could not convert"):
        harness.in_processes(float, [("x",)])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_compares_both_settings_of_the_allocator(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def in_this_process(function: Callable[..., object], calls: Sequence[tuple[bool, ...]]) -> list[object]:
        asked.extend(keep for keep, *_ in calls)
        return [function(False, *call[1:]) for call in calls]  # the other setting would outlast this test

    monkeypatch.setattr(harness, "in_processes", in_this_process)
    found = report(memory.main, [*SMALL, "--iterations", "6", "--log-every", "2"])["freed_memory"]
    assert list(found) == ["kept", "given back"] and asked == [True, False]
    for each in found.values():
        assert list(each["resident_mb"]) == ["2", "4", "6"]
        assert all(100 < size < 5000 for size in each["resident_mb"].values())
        assert each["ms"] > 0 and each["system_ms"] >= 0 and each["faults"] >= 0  # the system's clock is coarse


def test_figures_of_memory_exclude_the_warm_up() -> None:
    rows = [
        {"step": 5, "seconds": 10.0, "faults": 1000, "system": 1.0, "resident_mb": 300.0},
        {"step": 10, "seconds": 10.5, "faults": 1010, "system": 1.01, "resident_mb": 310.0},
        {"step": 15, "seconds": 11.0, "faults": 1030, "system": 1.02, "resident_mb": 305.0},
    ]
    figures = memory.figures(rows)
    assert "3.0" in memory.table({"config": "x", "threads": 1, "freed_memory": {"kept": figures}})
    assert figures.pop("resident_mb") == {5: 300.0, 10: 310.0, 15: 305.0}
    assert figures == pytest.approx({"ms": 100.0, "system_ms": 2.0, "faults": 3.0})


@pytest.mark.parametrize("kind", ["text", "image"])
def test_sampling_speed_of_a_trained_model(kind: str, tmp_path: Path, report: Report) -> None:
    state = new_state(with_settings(settings_of(kind), {"precision": "float32"}))
    words = Vocabulary.train([" ".join(map(str, WORDS))], VocabularySettings(tokenizer="spaces"))
    saved = save_checkpoint(tmp_path / "model", state, words if kind == "text" else None)
    options = ["--model", str(saved), "--count", "17", "--threads", "1", "--precisions", "float32,bfloat16"]
    found = report(sampling.main, options)
    drawn = [(row["precision"], row["temperature"]) for row in found["rows"]]
    expected = [(name, t) for name in ("float32", "bfloat16") for t in (0.0, 1.0)]
    assert drawn == (expected if kind == "image" or lstm_runs_in_bfloat16("cpu") else expected[:2])
    assert all(row["per_second"] == pytest.approx(17 / row["seconds"]) for row in found["rows"])
    samples = Model.load(saved).generate(17, temperature=1.0)
    assert found["rows"][1]["distinct"] == len({str(sample) for sample in samples}) / 17
    assert ("words" in found["rows"][0]) == (kind == "text")
    assert sampling.table(found).count("\n") == 1 + len(found["rows"])


def test_few_labels_by_the_core_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "grammar-entailment", "--data.size", "900", "--threads", "1", *PARTS, "--head.hidden", "7"]
    words += ["--storage", str(tmp_path), "--iterations", "6", "--evaluate-every", "2", "--labels", "30"]
    assert few_labels.main([*words, "--methods", "supervised,arae", "--out", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["method"], row["labels"], row["seed"]) for row in rows] == [("supervised", 30, 0), ("arae", 30, 0)]
    assert all(0 <= row["test"] <= 100 for row in rows)
    assert "accuracy on test" in capsys.readouterr().out


def test_overhead_trains_by_the_core_alone(tmp_path: Path, report: Report) -> None:
    seconds = report(overhead.main, [*TRAINING, "--storage", str(tmp_path), "--alone", "--trials", "2"])["seconds"]
    assert len(seconds) == 2 and min(seconds) > 0


@pytest.mark.slow
def test_overhead_of_a_sweep(tmp_path: Path, report: Report) -> None:
    found = report(overhead.main, [*TRAINING, "--storage", str(tmp_path), "--trials", "2"])
    assert overhead.text(found).startswith("a trial takes") and len(found["trials"]) == len(found["training"]) == 2
    assert min(*found["trials"], found["start"], found["end"]) > 0
