"""Settings of all tests: one thread a process, a clean environment, and the groups of pytest-xdist."""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; more threads only slow down tiny models
for name in ("ARAE_DEBUG", "ARAE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "COLUMNS", "FORCE_COLOR"):
    os.environ.pop(name, None)

# The same examples in every run, and no deadline: on a busy machine an example can exceed the default of 200 ms.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

SLOWEST_FIRST = ("tests/pipelines", "tests/cluster", "tests/test_", "tests/benchmarks", "tests/arae_core")
"""Order in which `make test` hands out files: with the short ones last, no worker waits long for the other."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a file, and all tests of the shared Ray cluster, on one worker of pytest-xdist."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        folder = next(i for i, start in enumerate(SLOWEST_FIRST) if item.nodeid.startswith(start))
        return not uses_ray(item), folder

    def uses_ray(item: pytest.Item) -> bool:
        return "room" in getattr(item, "fixturenames", ())

    if not hasattr(config, "workerinput"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if uses_ray(item) else item.nodeid.partition("::")[0]))
    items.sort(key=place)
