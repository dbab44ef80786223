"""What training asks of main memory: pages that the system clears for an iteration, and the resident size as it goes.

    python benchmarks/memory.py --config snli --data SENTENCES.txt --iterations 800 --log-every 200

With freed memory kept, as the core arranges (`arae_core/runtime/allocator.py`), and given back:
in turn, each in a process of its own. The first `log_every` iterations warm up. Linux only.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least, require
from pipelines.cli.command_line import Arguments, Option, parse, run, show
from pipelines.experiment.settings import Experiment

ITERATIONS = 400
STATUS = Path("/proc/self/status")
OPTIONS = (
    Option("threads", int, 1, "Threads that torch may use."),
    Option("data", Path, None, "Text file of one sentence a line, or a folder with train.txt. Default: synthetic."),
)


def resident_mb() -> float:
    """Main memory that this process has now."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def train(kept: bool, experiment: Experiment, data: Path | None, threads: int, iterations: int, result: Path) -> None:
    """Train in this process, and write to `result` what it took of memory after each `log_every` iterations."""
    import resource

    import torch

    from arae_core.runtime.allocator import keep_freed_memory
    from arae_core.training.loop import train as training
    from arae_core.training.state import TrainingState
    from benchmarks.examples import examples

    torch.set_num_threads(threads)
    store, shape, _ = examples(experiment, data)
    with patch("arae_core.state.keep_freed_memory", keep_freed_memory if kept else lambda: False):
        state = TrainingState(experiment, shape)
    rows = []
    for report in training(state, store, until=iterations, every=experiment.log_every):
        used = resource.getrusage(resource.RUSAGE_SELF)
        row = {"step": report.step, "seconds": time.perf_counter(), "faults": used.ru_minflt, "system": used.ru_stime}
        rows.append(row | {"resident_mb": resident_mb()})
    result.write_text(json.dumps(rows))


def figures(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of an iteration after the first row: ms, system_ms (of the system's own work), faults (pages that it cleared or
    found). resident_mb: iterations done -> megabytes."""
    first, last = rows[0], rows[-1]
    iterations = last["step"] - first["step"]
    return {
        "ms": 1000 * (last["seconds"] - first["seconds"]) / iterations,
        "system_ms": 1000 * (last["system"] - first["system"]) / iterations,
        "faults": (last["faults"] - first["faults"]) / iterations,
        "resident_mb": {int(row["step"]): row["resident_mb"] for row in rows},
    }


def measured(arguments: Arguments) -> dict[str, Any]:
    """Both ways, each in a new process."""
    context, options = multiprocessing.get_context("spawn"), arguments.options
    experiment, found = arguments.experiment, {}
    iterations = arguments.given.get("iterations") or ITERATIONS
    require(
        2 * experiment.log_every <= iterations, "log_every", experiment.log_every, f"<= half of {iterations} iterations"
    )
    with tempfile.TemporaryDirectory() as folder:
        for how in ("kept", "given back"):
            result = Path(folder, "rows.json")
            what = (how == "kept", experiment, options.data, options.threads, iterations, result)
            process = context.Process(target=train, args=what)
            process.start()
            process.join()
            if process.exitcode:
                raise RuntimeError(f"the training ended with status {process.exitcode}; its error is above")
            found[how] = figures(json.loads(result.read_text()))
    return {"config": experiment.name, "threads": options.threads, "freed_memory": found}


def table(report: dict[str, Any]) -> str:
    """The report to read."""
    found = report["freed_memory"]
    lines = ["{config}, threads {threads}".format(**report)]
    lines += [f"{'freed memory is':<24}" + "".join(f"{how:>12}" for how in found)]
    named = {"an iteration, ms": "ms", "... of the system, ms": "system_ms", "... page faults": "faults"}
    lines += [f"{name:<24}" + "".join(f"{each[key]:>12,.1f}" for each in found.values()) for name, key in named.items()]
    for step in next(iter(found.values()))["resident_mb"]:
        sizes = "".join(f"{each['resident_mb'][step]:>12,.0f}" for each in found.values())
        lines += [f"{f'MB after {step:,}':<24}{sizes}"]
    return "\n".join(lines)


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = parse(words, "Measure what training asks of main memory.", OPTIONS, config="snli")
    at_least("threads", arguments.options.threads, 1)
    if not STATUS.exists():
        raise ValueError(f"this benchmark reads {STATUS}, which only Linux has")
    report = measured(arguments)
    show(report, table, arguments.options)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
