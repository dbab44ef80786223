"""Throughput, the time of parts, and the examples that are measured on."""

import shlex
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from arae_core import algorithm
from arae_core.settings import Settings, VocabularySettings
from arae_core.settings.tree import with_settings
from arae_core.training.state import TrainingState
from benchmarks import harness, parts
from benchmarks.examples import examples, synthetic_sentences
from benchmarks.parts import PARTS, TIMED, Stopwatch, batch_sampler, part_times, stopwatch
from benchmarks.throughput import FEEDING_LIMIT, main, table
from pipelines.experiment.presets import preset
from tests.benchmarks.conftest import Report

SMALL = ["--config", "grammar", "--batch-size", "16", "--samples", "20", "--iterations", "3", "--threads", "1"]


def test_every_part_of_an_iteration_is_reported(report: Report) -> None:
    found = report(main, SMALL)
    assert found["config"] == "grammar" and found["iterations"] == 3
    assert found["ms_10th_percentile"] <= found["ms_per_iteration"] <= found["ms_90th_percentile"]
    assert found["examples_per_second"] == pytest.approx(16_000 / found["ms_per_iteration"])
    assert found["tokens_per_second"] > 3 * found["examples_per_second"]
    assert set(found["sampling"]) == set(found["sampled_words"]) == {"greedy", "temperature 1"}
    assert list(found["parts"]) == list(PARTS) and all(part["ms"] > 0 for part in found["parts"].values())
    assert sum(part["share"] for part in found["parts"].values()) == pytest.approx(1)
    lines = table(found).splitlines()
    assert lines[0].startswith("grammar: batch 16, ")
    assert [line.split("  ")[0] for line in lines[-len(PARTS) :]] == list(PARTS)


@pytest.mark.parametrize("words", ["--config=digits", "--config=mnist --encoder.hidden=16", "--critic.objective=none"])
def test_every_kind_of_experiment_can_be_measured(words: str, report: Report) -> None:
    small = [*SMALL, *words.split(), "--decoder.hidden=16", "--iterations=2", "--samples=8"]
    found = report(main, small)
    assert found["ms_per_iteration"] > 0 and ("tokens_per_second" in found) == ("none" in words)


def test_feeding_takes_less_than_three_percent_at_the_published_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """In processor time, which does not depend on other processes."""
    monkeypatch.setattr(parts, "time", SimpleNamespace(perf_counter=time.process_time))
    torch.set_num_threads(1)
    settings = with_settings(preset("paper-snli"), {"precision": "float32"})
    store, spec, _ = examples(settings, None)
    state = TrainingState(settings, spec)
    batches = batch_sampler(state, store)
    part_times(state, batches, 1)
    times = part_times(state, batches, 3)
    assert 0 < times["feeding"] < FEEDING_LIMIT * sum(times.values())


def test_sentences_of_a_file_are_measured(tmp_path: Path, report: Report) -> None:
    (tmp_path / "train.txt").write_text("a man sleeps .\n" * 20 + "\n" + "too long " * 20 + "\n", encoding="utf-8")
    found = report(main, [*SMALL, "--data", str(tmp_path)])
    assert (found["examples"], found["mean_length"]) == (20, 4)


def test_a_peer_is_measured_alternately(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer is a real process. Ours is not run; the report is that of the median round."""
    ours, last_json = iter((5.0, 3.0, 4.0)), harness.last_json

    def run(title: str, command: list[str]) -> dict[str, object]:
        if title == "peer":
            return last_json(title, command)
        assert {"--config", "grammar", "--json", "--iterations=3", "--threads=1"} <= set(command)
        assert Path(command[1]).name == "throughput.py"
        return {"ms_per_iteration": next(ours)}

    monkeypatch.setattr(harness, "last_json", run)
    peer = shlex.join([sys.executable, "-c", "print('warming up'); print('{\"ms_per_iteration\": 8}')"])
    found = report(main, [*SMALL, "--peer", peer, "--rounds", "3"])
    assert [(turn["ours"], turn["peer"]) for turn in found["peer"]["rounds"]] == [(5, 8), (3, 8), (4, 8)]
    assert found["peer"]["ratio"] == 0.5 and found["ms_per_iteration"] == 4


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(harness.ROOT / "benchmarks" / "throughput.py"), *SMALL, "--print-config", "--json"]
    assert harness.last_json("the script", command, cwd=tmp_path)["batch_size"] == 16


def test_few_sentences_and_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a man sleeps .\n" * 3)
    with pytest.raises(ValueError, match=r"data must hold 64 or more sentences .* got 3"):
        examples(Settings(), tmp_path / "few.txt")
    (tmp_path / "latin.txt").write_bytes("ein Mädchen\n".encode("latin-1"))
    with pytest.raises(ValueError, match="must be UTF-8"):
        examples(Settings(), tmp_path / "latin.txt")


def test_synthetic_sentences_fill_the_vocabulary_and_have_the_lengths_of_snli() -> None:
    settings = Settings(vocabulary=VocabularySettings(size=500), longest=15)
    lengths = [len(sentence.split()) for sentence in synthetic_sentences(settings, 10_000)]
    assert (min(lengths), max(lengths)) == (3, 15)
    assert sum(lengths) / len(lengths) == pytest.approx(9.2, abs=0.1)
    _, spec, vocabulary = examples(settings, None)
    assert vocabulary is not None
    assert len(vocabulary) == spec.vocabulary == 500  # type: ignore[union-attr]
    assert max(len(s.split()) for s in synthetic_sentences(Settings(longest=2), 50)) <= 2


def test_time_in_a_nested_part_is_charged_to_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((1, 2, 4, 8, 16))  # the stopwatch starts, two parts start, two parts end
    monkeypatch.setattr(parts, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    watch = Stopwatch(torch.device("cpu"))
    with watch.part("reconstruct"), watch.part("optimizer"):
        pass
    assert watch.seconds == {"other": 1, "reconstruct": 2 + 8, "optimizer": 4}
    assert watch.calls == {"reconstruct": 1, "optimizer": 1}


def test_timing_leaves_the_algorithm_unchanged() -> None:
    before = [vars(owner)[name] for owner, name, _ in TIMED]
    step = algorithm.reconstruction_step
    with stopwatch(torch.device("cpu")):
        assert algorithm.reconstruction_step is not step
    assert [vars(owner)[name] for owner, name, _ in TIMED] == before
