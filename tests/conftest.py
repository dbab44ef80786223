"""For every test: one thread a process, set before torch is first imported (threads of tiny models only wait), nothing
that whoever starts the tests has set for the commands, and examples of hypothesis that are the same every time."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("ARAE_DEBUG", "ARAE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "COLUMNS", "FORCE_COLOR"):
    os.environ.pop(name, None)

# A busy machine holds up an example for longer than the 200 ms that hypothesis allows, and the making of some.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
