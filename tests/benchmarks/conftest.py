"""Fixtures of the benchmarks' tests."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from benchmarks import examples

Report = Callable[[Callable[[Sequence[str]], int], Sequence[str]], Any]


@pytest.fixture(autouse=True)
def _small_data_and_same_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make less synthetic data, and restore torch's number of threads, which benchmarks set."""
    monkeypatch.setattr(examples, "SYNTHETIC_EXAMPLES", 2000)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Run a benchmark with --json and return what it reports."""

    def call(main: Callable[[Sequence[str]], int], words: Sequence[str]) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return call
