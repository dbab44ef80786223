"""Peak speeds of a device, and the command that compares an iteration with its lower bound."""

import pytest
import torch

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from arae_core.settings.tree import with_settings
from arae_core.training.state import TrainingState
from benchmarks import floor
from benchmarks.costs import Cost, Part
from benchmarks.parts import PARTS, stopwatch
from pipelines.experiment.presets import preset
from tests.benchmarks.conftest import Report

CPU = torch.device("cpu")
SMALL = ["--batch-size=14", "--encoder.hidden=13", "--decoder.hidden=13", "--code.size=11", "--threads=1"]


@pytest.fixture(autouse=True)
def _small_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(floor.ROWS, "cpu", 67)
    monkeypatch.setitem(floor.COPIED, "cpu", 2**22)


def test_lower_bound_is_the_longer_of_two_times() -> None:
    peaks = {"float32": 1e9, "bfloat16": 4e9, "bytes": 1e6}
    assert floor.floor_ms(Part("", "", Cost(3e9, 1e6), "float32"), peaks) == 3000
    assert floor.floor_ms(Part("", "", Cost(3e9, 1e6), "bfloat16"), peaks) == 1000
    assert floor.floor_ms(Part("", "", Cost(0, 5e6), "float32"), peaks) == 5000


def test_blocks_are_timed_after_the_warm_up() -> None:
    settings = with_settings(preset("grammar"), {"batch_size": 5, "encoder.hidden": (7,), "decoder.hidden": (7,)})
    state = TrainingState(settings, TextSpec(13))
    with stopwatch(CPU) as watch:
        times = floor.block_times(state, TokenStore.from_rows([[4, 5, 6]] * 11), iterations=3, warm_up=2, blocks=2)
    assert len(times) == 2 and min(times) > 0
    assert watch.calls["critic steps"] == 2 + 2 * 3
    assert state.step == 9  # the warm-up begins at step 1


@pytest.mark.parametrize("words", [["--config=grammar"], ["--config=digits"], ["--critic.objective=none"]])
def test_every_kind_of_experiment_has_a_lower_bound(words: list[str], report: Report) -> None:
    found = report(floor.main, [*words, *SMALL, "--vocabulary.size=101", "--iterations=3"])
    assert list(found["steps"]) == list(PARTS)
    for figure in ("gflop", "mb", "floor_ms"):
        total = sum(part[figure] for part in found["parts"])
        assert total == pytest.approx(found["iteration"][figure])
        assert total == pytest.approx(sum(step[figure] for step in found["steps"].values()))
    for figures in (found["iteration"], found["steps"]["reconstruct"], found["steps"]["optimizer"]):
        assert figures["share"] == pytest.approx(figures["floor_ms"] / figures["ms"]) and figures["floor_ms"] > 0
    lines = floor.table(found).splitlines()
    first = [line[:30].rstrip() for line in lines].index("reconstruct")
    inside = [part["part"] for part in found["parts"] if part["within"] == "reconstruct"]
    assert [line[:30].strip() for line in lines[first + 1 : first + 1 + len(inside)]] == inside
    assert len(lines[first].split()) == 6 and lines[-1].startswith("whole iteration") and lines[-1].endswith("%")
