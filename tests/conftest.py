"""For every test: one thread a process, set before torch is first imported (threads of tiny models only wait)."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
