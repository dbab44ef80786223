"""Page faults and resident memory of training, with the memory allocator as training sets it and as it is by default.

    python benchmarks/memory.py --config snli --data SENTENCES.txt --iterations 800 --log-every 200

Training keeps freed memory for reuse (`arae_core/runtime/allocator.py`); by default the C library gives large blocks
back to the system. Both run one after the other, each in a process of its own. The first `log_every` iterations are the
warm-up. Linux only.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import require
from benchmarks import harness
from pipelines.cli.command_line import Arguments, show
from pipelines.experiment.settings import Experiment

ITERATIONS = 400
OPTIONS = (harness.THREADS_PER_PROCESS, harness.DATA)
Row = dict[str, float]


def train(keep: bool, experiment: Experiment, data: Path | None, threads: int, iterations: int) -> list[Row]:
    """Train in this process; return its memory, faults and times after every `log_every` iterations."""
    import resource

    import torch

    from arae_core.runtime.allocator import keep_freed_memory
    from arae_core.training import loop
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    torch.set_num_threads(threads)
    store, spec, _ = examples(experiment, data)
    state, rows = TrainingState(experiment, spec), []
    with patch.object(loop, "keep_freed_memory", keep_freed_memory if keep else lambda: False):
        for report in loop.train(state, store, until=iterations, every=experiment.log_every):
            used = resource.getrusage(resource.RUSAGE_SELF)
            row = {"step": report.step, "seconds": time.perf_counter(), "resident_mb": harness.resident_mb()}
            rows.append(row | {"faults": used.ru_minflt, "system": used.ru_stime})
    return rows


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Return figures per iteration since the first row: ms, system_ms (in the kernel), and faults (minor page faults).

    resident_mb: iterations done -> megabytes.
    """
    first, last = rows[0], rows[-1]
    iterations = last["step"] - first["step"]
    return {
        "ms": 1000 * (last["seconds"] - first["seconds"]) / iterations,
        "system_ms": 1000 * (last["system"] - first["system"]) / iterations,
        "faults": (last["faults"] - first["faults"]) / iterations,
        "resident_mb": {int(row["step"]): row["resident_mb"] for row in rows},
    }


def measured(arguments: Arguments) -> dict[str, Any]:
    """Measure both allocator settings, each in a new process."""
    options, experiment, found = arguments.options, arguments.experiment, {}
    iterations, every = harness.iterations_of(arguments, ITERATIONS), experiment.log_every
    require(2 * every <= iterations, "log_every", every, f"<= half of {iterations} iterations")
    for name in ("kept", "given back"):
        call = (name == "kept", experiment, options.data, options.threads, iterations)
        found[name] = figures(harness.in_processes(train, [call])[0])
    return {"config": experiment.name, "threads": options.threads, "freed_memory": found}


def table(report: dict[str, Any]) -> str:
    """Format the report."""
    found = report["freed_memory"]
    lines = ["{config}, threads {threads}".format(**report)]
    lines += [f"{'freed memory is':<24}" + "".join(f"{name:>12}" for name in found)]
    titles = {"an iteration, ms": "ms", "... in the kernel, ms": "system_ms", "... page faults": "faults"}
    lines += [f"{title:<24}" + "".join(f"{each[k]:>12,.1f}" for each in found.values()) for title, k in titles.items()]
    for step in next(iter(found.values()))["resident_mb"]:
        sizes = "".join(f"{each['resident_mb'][step]:>12,.0f}" for each in found.values())
        lines += [f"{f'MB after {step:,}':<24}{sizes}"]
    return "\n".join(lines)


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Measure page faults and resident memory of training.", OPTIONS, "snli")
    if sys.platform != "linux":
        raise ValueError("this benchmark reads /proc, which only Linux has")
    show(measured(arguments), table, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
