"""Settings of all tests: one thread a process, a clean environment, and the groups of pytest-xdist."""

import multiprocessing
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; more threads only slow down tiny models
for name in ("ARAE_DEBUG", "ARAE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "COLUMNS", "FORCE_COLOR"):
    os.environ.pop(name, None)

# The same examples in every run, and no deadline: on a busy machine an example can exceed the default of 200 ms.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# Processes of the start method "forkserver" are forked from one that has imported these: five seconds less for each.
# The first optimizer imports torch._dynamo.
multiprocessing.set_forkserver_preload(["torch._dynamo", "arae_core.training.loop"])

WITH_RAY = (
    "tests/pipelines/sweeps/test_search.py",
    "tests/pipelines/sweeps/test_multi_worker_trial.py",
    "tests/pipelines/training/test_trainer.py",
    "tests/pipelines/runtime/test_progress_actor.py",
    "tests/pipelines/test_classify.py",
    "tests/pipelines/test_train.py",
)
"""Files that use the private Ray cluster of the session: one worker of pytest-xdist runs them all."""
ORDER = (*WITH_RAY, "tests/pipelines", "tests/cluster", "tests/test_", "tests/docs", "tests/benchmarks", "tests")
"""Order of the files: with the short ones last, no worker waits long for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by ORDER."""
    items.sort(key=lambda item: next(i for i, start in enumerate((*ORDER, "")) if item.nodeid.startswith(start)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return the scheduler of `--dist loadfile`, which hands out whole files; those with Ray are one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class OneWorkerWithRay(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if file in WITH_RAY else file

    return OneWorkerWithRay(config, log)
