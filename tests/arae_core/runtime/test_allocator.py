"""Freed memory stays with the process if the C library is glibc."""

import platform
import subprocess
import sys

import pytest

from arae_core.runtime.allocator import keep_freed_memory

PROGRAM = """
import ctypes, os
from arae_core.runtime.allocator import keep_freed_memory

c = ctypes.CDLL(None)
c.malloc.argtypes, c.malloc.restype, c.free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

def returned(count):
    place = c.malloc(count)
    before = size()
    c.free(place)
    return before - size()

print(returned(40_000_000))
assert keep_freed_memory()
print(returned(200_000_000))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_not_returned_to_the_operating_system() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    default, kept = map(int, found.stdout.split())
    if default < 40_000_000:
        pytest.skip("another allocator is loaded")
    assert kept == 0


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory()
