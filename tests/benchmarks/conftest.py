"""Fixtures of the benchmarks' tests."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

Report = Callable[[Callable[[Sequence[str]], int], Sequence[str]], Any]


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Benchmarks set torch's number of threads; restore it for other tests."""
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
