"""What a device can do, and the command that says how far an iteration is from it."""

import json
from collections.abc import Iterator

import pytest
import torch

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from arae_core.runtime.precision import precision_on
from arae_core.settings import Settings
from arae_core.settings.tree import with_settings
from arae_core.training.state import TrainingState
from benchmarks.costs import Cost, Part
from benchmarks.floor import COPIED, ROWS, block_times, fastest_copy, fastest_product, floor_ms, main
from benchmarks.parts import PARTS, watched
from pipelines.experiment.presets import preset

SMALL = ["--batch-size=14", "--encoder.hidden=13", "--decoder.hidden=13", "--code.size=11", "--threads=1"]


@pytest.fixture(autouse=True)
def _small_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ceilings of small products and copies. The command sets torch's threads; other tests keep theirs."""
    monkeypatch.setitem(ROWS, "cpu", 67)
    monkeypatch.setitem(COPIED, "cpu", 2**22)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_floor_is_what_takes_longer() -> None:
    ceilings = {"float32": 1e9, "bfloat16": 4e9, "bytes": 1e6}
    assert floor_ms(Part("", "", Cost(3e9, 1e6), "float32"), ceilings) == 3000
    assert floor_ms(Part("", "", Cost(3e9, 1e6), "bfloat16"), ceilings) == 1000
    assert floor_ms(Part("", "", Cost(0, 5e6), "float32"), ceilings) == 5000


def test_ceilings_are_those_of_a_computer() -> None:
    cpu = torch.device("cpu")
    assert 1e8 < fastest_product(cpu, "float32", 256) < 1e14
    assert 1e6 < fastest_product(cpu, "bfloat16") < 1e14
    assert 1e8 < fastest_copy(cpu) < 1e13


def test_blocks_are_timed_after_the_warm_up() -> None:
    settings = with_settings(preset("grammar"), {"batch_size": 5, "encoder.hidden": (7,), "decoder.hidden": (7,)})
    state = TrainingState(settings, TextSpec(13))
    with watched(torch.device("cpu")) as watch:
        times = block_times(state, TokenStore.from_rows([[4, 5, 6]] * 11), iterations=3, warm_up=2, blocks=2)
    assert len(times) == 2 and min(times) > 0
    assert watch.calls["critic steps"] == 2 + 2 * 3
    assert state.step == 9  # from 1, where two are left of the first block


@pytest.mark.parametrize("words", [["--config=grammar"], ["--config=digits"], ["--critic.objective=none"]])
def test_every_kind_of_experiment_has_a_floor(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, *SMALL, "--vocabulary.size=101", "--iterations=3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(report["steps"]) == list(PARTS)
    for figure in ("gflop", "mb", "floor_ms"):
        total = sum(part[figure] for part in report["parts"])
        assert total == pytest.approx(report["iteration"][figure])
        assert total == pytest.approx(sum(step[figure] for step in report["steps"].values()))
    for figures in (report["iteration"], report["steps"]["reconstruct"], report["steps"]["optimizer"]):
        assert figures["share"] == pytest.approx(figures["floor_ms"] / figures["ms"]) and figures["floor_ms"] > 0


def test_the_table_has_the_parts_under_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config=grammar", *SMALL, "--iterations=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"grammar: batch 14, {precision_on('cpu', Settings())}, cpu, threads 1")
    names = [line[:30].rstrip() for line in lines]
    first = names.index("reconstruct")
    assert names[first : first + 3] == ["reconstruct", "  vocabulary projection", "  decoder LSTM"]
    assert len(lines[first].split()) == 6 and len(lines[first + 1].split()) == 5
    assert lines[-1].startswith("whole iteration, as trained") and lines[-1].endswith("%")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads=0"], "threads must be >= 1"),
        (["--iteration=5"], "did you mean --iterations"),
        (["--data=missing.txt"], "data must be a text file"),
        pytest.param(
            ["--device=cuda"],
            "device must be cpu or auto here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_mistake_costs_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line
