"""Time against size: the rows, their exponents, skipped sizes, the table and the picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arae_core.settings.tree import with_settings
from benchmarks.scaling import AXES, LENGTH, draw, exponents, main, rows, sentences, table, varied
from pipelines.experiment.presets import preset
from tests.benchmarks.conftest import Report

SMALL: dict[str, Any] = {
    **{"batch_size": 5, "vocabulary.size": 53, "encoder.embedding": 7, "encoder.hidden": (11,), "code.size": 11},
    **{"decoder.embedding": 7, "decoder.hidden": (11,), "generator.hidden": (13,), "critic.hidden": (13,)},
    **{"critic.steps": 2},
}
EXPERIMENT = with_settings(preset("paper-snli"), SMALL)


def some(name: str, *sizes: int, most_seconds: float = 60.0) -> list[dict[str, Any]]:
    cpu = torch.device("cpu")
    return list(rows(EXPERIMENT, name, sizes, most_seconds, cpu, iterations=2, warm_up=1, blocks=1))


@pytest.mark.parametrize("name", AXES)
def test_every_size_can_be_varied_alone(name: str) -> None:
    first, second, third = some(name, 7, 14, 21)
    assert (first["vary"], first["size"], second["size"]) == (name, 7, 14)
    batch = 14 if name == "batch_size" else SMALL["batch_size"]
    assert second["sentences_per_second"] == pytest.approx(1000 * batch / second["ms"])
    assert second["gflop_per_second"] == pytest.approx(1000 * second["gflop"] / second["ms"])
    assert 0.01 < second["flop_exponent"] < 2
    assert "exponent" not in first and third["exponent"] == pytest.approx(exponents(third, second)["exponent"])
    changed, length = varied(EXPERIMENT, name, 14)
    assert length == (14 if name == "length" else LENGTH) == changed.longest + 1


def test_exponents_compare_with_the_row_before() -> None:
    before = {"size": 64, "ms": 10.0, "gflop": 3.0}
    assert exponents({"size": 128, "ms": 20.0, "gflop": 12.0}, before) == {
        **{"exponent": pytest.approx(1), "flop_exponent": pytest.approx(2), "superlinear": False}
    }
    assert exponents({"size": 256, "ms": 40.0, "gflop": 3.0}, before)["exponent"] == pytest.approx(1)
    assert exponents({"size": 128, "ms": 21.0, "gflop": 3.0}, before)["superlinear"] is True


def test_sizes_that_would_take_too_long_are_skipped() -> None:
    first, second, third = some("batch_size", 5, 10, 20, most_seconds=1e-9)
    assert "ms" in first and "skipped" not in first
    assert "ms" not in second and "ms" not in third
    assert second["gflop"] == pytest.approx(2 * first["gflop"])
    assert second["skipped"] == pytest.approx(3 * 2 * first["ms"] / 1000)  # three iterations
    assert third["skipped"] == pytest.approx(2 * second["skipped"])


def test_sentences_have_one_length_and_follow_zipf() -> None:
    store = sentences(EXPERIMENT, 8)
    assert set(store.lengths) == {7}
    assert len(store) >= 1000 and len(store.ids) == 7 * len(store)
    counts = np.bincount(store.ids, minlength=53)
    assert counts[:4].sum() == 0 and len(counts) == 53
    assert counts[4] / counts[13] == pytest.approx(10, rel=0.2)


def test_table_and_picture(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for size, ms in ((64, 10.0), (128, 30.0)):
        row = {"vary": "batch_size", "size": size, "ms": ms, "gflop": size / 64, "gflop_per_second": 100 * size / ms}
        row |= {"sentences_per_second": 1000 * size / ms} | (exponents(row, found[-1]) if found else {})
        found.append(row)
    found += [{"vary": "batch_size", "size": 4096, "gflop": 64.0, "skipped": 75.2}]
    report = {"config": "paper-snli", "batch_size": 64, "precision": "float32", "device": "cpu", "threads": 1}
    report |= {"torch": "2", "iterations": 5, "rounds": 1, "rows": found}
    _, _, head, first, second, third = table(report).splitlines()
    assert head.split()[:3] == ["batch", "size", "ms"]
    assert first.split()[:3] == ["64", "10.0", "6,400"]
    assert second.split()[-3:] == ["1.58", "1.00", "superlinear"]
    assert third.split()[0] == "4,096" and "skipped" in third and "75 s" in third
    draw(report, tmp_path / "new" / "scaling.png")
    assert (tmp_path / "new" / "scaling.png").stat().st_size > 1000


def test_the_command(tmp_path: Path, report: Report) -> None:
    words = [f"--{name.replace('_', '-')}={v[0] if isinstance(v, tuple) else v}" for name, v in SMALL.items()]
    words += ["--vary=critic_steps", "--iterations=1", "--warm-up=1", "--threads=1"]
    found = report(main, [*words, f"--picture={tmp_path / 'k.png'}"])["rows"]
    assert [row["size"] for row in found] == list(AXES["critic_steps"].sizes) and all(row["ms"] > 0 for row in found)
    assert (tmp_path / "k.png").exists()
