"""The throughput harness, run as a user runs it."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arae_core import algorithm
from arae_core.runtime.precision import precision_on
from arae_core.settings import Settings, VocabularySettings
from benchmarks import parts as parts_of
from benchmarks.examples import examples, synthetic_sentences
from benchmarks.parts import PARTS, WATCHED, Stopwatch, watched
from benchmarks.throughput import FEEDING_LIMIT, main

SMALL = ["--config", "grammar", "--batch-size", "16", "--samples", "20", "--iterations", "3", "--threads", "1"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The harness sets torch's threads; other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def report(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def test_reports_every_part_of_an_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    result = report(SMALL, capsys)
    assert result["config"] == "grammar"
    assert result["iterations"] == 3
    assert result["ms_10th_percentile"] <= result["ms_per_iteration"] <= result["ms_90th_percentile"]
    assert result["examples_per_second"] == pytest.approx(16_000 / result["ms_per_iteration"])
    assert result["tokens_per_second"] > 3 * result["examples_per_second"]
    assert set(result["sampling"]) == set(result["sampled_words"]) == {"greedy", "temperature 1"}
    assert list(result["parts"]) == list(PARTS)
    assert sum(part["share"] for part in result["parts"].values()) == pytest.approx(1)
    assert all(result["parts"][name]["ms"] > 0 for name in PARTS)


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "digits"],
        ["--config", "mnist", "--encoder.hidden", "16", "--decoder.hidden", "16"],
        ["--config", "grammar", "--critic.objective", "none"],
    ],
)
def test_every_kind_of_experiment_can_be_measured(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    result = report([*words, "--batch-size", "16", "--iterations", "2", "--samples", "8", "--threads", "1"], capsys)
    assert result["ms_per_iteration"] > 0
    assert ("tokens_per_second" in result) == ("grammar" in words)


def test_feeding_costs_less_than_three_percent_at_the_published_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of processor time: whoever else the processor works for may hold up either."""
    monkeypatch.setattr(parts_of, "time", SimpleNamespace(perf_counter=time.process_time))
    parts = report(["--config", "paper-snli", "--iterations", "3", "--samples", "2", "--threads", "1"], capsys)["parts"]
    assert 0 < parts["feeding"]["share"] < FEEDING_LIMIT


def test_table_is_what_is_printed_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"grammar: batch 16, {precision_on('cpu', Settings())}, cpu, threads 1")
    assert [line.split("  ")[0] for line in lines[-len(PARTS) :]] == list(PARTS)


def test_given_sentences_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.txt").write_text("a man sleeps .\n" * 20 + "\n" + "too long " * 20 + "\n", encoding="utf-8")
    result = report([*SMALL, "--data", str(tmp_path)], capsys)
    assert (result["examples"], result["mean_length"]) == (20, 4)


def test_a_peer_is_measured_in_turn(tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text("print('warming up')\nprint('{\"ms_per_iteration\": 1e6}')\n")
    script = Path(__file__).parents[2] / "benchmarks" / "throughput.py"
    command = [sys.executable, str(script), *SMALL, "--peer", f"{sys.executable} {peer}", "--rounds", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    rounds = result["peer"]["rounds"]
    assert [turn["peer"] for turn in rounds] == [1e6, 1e6]
    assert all(turn["ratio"] == pytest.approx(turn["ours"] / 1e6) for turn in rounds)
    assert result["peer"]["ratio"] == pytest.approx(sum(turn["ratio"] for turn in rounds) / 2)
    assert result["iterations"] == 3  # the settings typed reach the process that measures
    assert re.findall("^round .", done.stderr, re.MULTILINE) == ["round 1", "round 2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "paper-snl"], "paper-snli"),
        (["--data", "missing.txt"], "data must be a text file"),
        (["--config", "digits", "--data", "x"], "data must not be given for images"),
        (["--threads", "0"], "threads must be >= 1"),
        (["--rounds", "0"], "rounds must be >= 1"),
        (["--iterations", "-1"], "iterations must be >= 0"),
        (["--iteration", "5"], "did you mean --iterations"),
        (["--peer", "no-such-command"], "peer must be a command that can be run"),
        (["--peer", f"{sys.executable} -c 'raise SystemExit(\"no data here\")'"], "no data here"),
        (["--peer", f"{sys.executable} -c 'print(1)'"], "peer must print a JSON object"),
        (["--peer", "'"], "peer must be a command"),
    ],
)
def test_a_mistake_costs_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]


def test_few_sentences_and_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a man sleeps .\n" * 3)
    with pytest.raises(ValueError, match=r"data must hold 64 or more sentences .* got 3"):
        examples(Settings(), tmp_path / "few.txt")
    (tmp_path / "latin.txt").write_bytes("ein Mädchen\n".encode("latin-1"))
    with pytest.raises(ValueError, match="must be UTF-8"):
        examples(Settings(), tmp_path / "latin.txt")


def test_synthetic_sentences_fill_the_vocabulary_and_have_the_lengths_of_snli() -> None:
    settings = Settings(vocabulary=VocabularySettings(size=500), longest=15)
    lengths = [len(sentence.split()) for sentence in synthetic_sentences(settings)]
    assert (min(lengths), max(lengths)) == (3, 15)
    assert sum(lengths) / len(lengths) == pytest.approx(9.2, abs=0.1)
    _, spec, vocabulary = examples(settings, None)
    assert vocabulary is not None
    assert len(vocabulary) == spec.vocabulary == 500  # type: ignore[union-attr]
    assert max(len(s.split()) for s in synthetic_sentences(Settings(longest=2), 50)) <= 2


def test_a_part_inside_another_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((1, 2, 4, 8, 16))  # the watch, then both parts, begin; then both end
    monkeypatch.setattr(parts_of, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    watch = Stopwatch(torch.device("cpu"))
    with watch.part("reconstruct"), watch.part("optimizer"):
        pass
    assert watch.seconds == {"other": 1, "reconstruct": 2 + 8, "optimizer": 4}
    assert watch.calls == {"reconstruct": 1, "optimizer": 1}


def test_watching_leaves_the_algorithm_as_it_was() -> None:
    before = [vars(owner)[name] for owner, name, _ in WATCHED]
    with watched(torch.device("cpu")):
        assert algorithm.reconstruct is not before[3]
    assert [vars(owner)[name] for owner, name, _ in WATCHED] == before
