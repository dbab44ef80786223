"""Freed memory stays with the process if the C library is glibc."""

import platform
import subprocess
import sys

import pytest

from arae_core.runtime.allocator import keep_freed_memory

PROGRAM = """
import resource, sys, torch
from arae_core.runtime.allocator import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(10_000_000)  # 40 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(7):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    """Compare the page faults of new processes that allocate seven tensors, one after the other."""
    faults = {}
    for how in ("default", "keep"):
        found = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
        faults[how] = int(found.stdout)
    if faults["default"] < 7 * 1000:
        pytest.skip("pages are huge here, or another allocator is loaded")
    assert faults["keep"] < faults["default"] / 3  # the first address of a tensor may still change once


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory()
