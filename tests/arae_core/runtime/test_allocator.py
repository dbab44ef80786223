"""Memory that is freed stays with the process, where glibc lets it."""

import platform
import subprocess
import sys

import pytest

from arae_core.runtime.allocator import keep_freed_memory

PROGRAM = """
import resource, sys, torch
from arae_core.settings import CodeSettings, DecoderSettings, EncoderSettings, Settings
from arae_core.runtime.allocator import keep_freed_memory
from arae_core.data.data_spec import TextSpec
from arae_core.training.state import TrainingState

torch.set_num_threads(1)
if sys.argv[1] == "asked":
    assert keep_freed_memory()
if sys.argv[1] == "by the state":
    encoder, decoder = EncoderSettings(hidden=(3,)), DecoderSettings(hidden=(5,))
    settings = Settings(encoder=encoder, decoder=decoder, code=CodeSettings(size=3))
    TrainingState(settings, TextSpec(11, 0, 1, 2, 3))
for _ in range(3):
    torch.ones(10_000_000)  # 40 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(7):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = platform.libc_ver()[0] == "glibc"


def pages_cleared(how: str) -> int:
    """What a new process asks of the operating system for seven tensors, one after the other."""
    found = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
    return int(found.stdout)


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_the_same_memory_is_used_again() -> None:
    by_itself = pages_cleared("by itself")
    if by_itself < 7 * 1000:
        pytest.skip("pages are huge here, or another allocator is loaded")
    for how in ("asked", "by the state"):
        assert pages_cleared(how) < by_itself / 3, how  # where a tensor begins may still move once


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory()
