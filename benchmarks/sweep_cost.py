"""What a sweep costs its driver, by the number of trials.

    python benchmarks/sweep_cost.py --trials 10,50,200 --picture sweep-cost.png

Runs tune.py with a model so small that the trials themselves cost little, each sweep in a process of its own. Storage
and MLflow's database are temporary, where no others are named.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median
from typing import Any
from unittest.mock import patch

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least
from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.experiment.environment import default_storage, default_tracking_uri

SMALL = (
    *("--config=grammar", "--data.size=600", "--batch-size=14", "--iterations=4", "--evaluate-every=2"),
    *("--log-every=1", "--samples=30", "--encoder.embedding=5", "--encoder.hidden=13", "--decoder.embedding=5"),
    *("--decoder.hidden=13", "--code.size=11", "--generator.noise-size=3", "--generator.hidden=8"),
    *("--critic.hidden=8", "--max-failures=0"),
)
"""A trial of milliseconds, beside its start and its two evaluations."""
SAMPLES = 10
"""How often in a sweep the driver is looked at."""
PROBES = 7
"""Trials that are started in MLflow after a sweep, to see what one more would pay."""

OPTIONS = (
    Option("trials", tuple[int, ...], (10, 50, 200), "Numbers of trials: a sweep for each."),
    Option("scheduler", str, "none", "As in tune.py.", ("asha", "pbt", "none")),
    Option("max_concurrent", int, 0, "Trials at a time at most; 0: as many as fit."),
    Option("picture", Path, None, "File for a picture of the sweeps as they went."),
)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """One sweep, in this process, which is its driver: totals, and `samples` of the driver as trials ended."""
    import torch
    from ray.tune.execution.tune_controller import TuneController
    from rich.console import Console

    from benchmarks.parts import watched
    from pipelines import tune
    from pipelines.reporting import display
    from pipelines.sweeps import tune_callback as watching
    from pipelines.tracking.runs import Tracker

    parts: tuple[tuple[Any, str, str], ...] = (
        (watching.Watch, "on_trial_result", "rows"),
        (display.TrialsDisplay, "show", "table"),
        (watching, "prune", "prune"),
        (Tracker, "_send", "mlflow"),
        (TuneController, "save_to_dir", "snapshot"),
    )
    trials, ended = options.trials[0], 0
    samples: list[dict[str, Any]] = []

    def look() -> None:
        seconds = {"seconds": time.perf_counter() - started, "cpu": time.process_time()}
        calls = {f"{part} calls": watch.calls[part] for part in ("rows", "mlflow", "snapshot")}
        figures = {part: watch.seconds[part] for _, _, part in parts}
        samples.append({"trials": ended, "memory": _resident(), **seconds, **figures, **calls})

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        def end(*arguments: Any, **named: Any) -> None:
            nonlocal ended
            original(*arguments, **named)
            ended += 1
            if ended % max(1, trials // SAMPLES) == 0 or ended == trials:
                look()

        return end

    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        storage = own if options.storage == default_storage() else options.storage
        uri = options.tracking_uri
        uri = f"sqlite:///{own}/mlflow.db" if uri == default_tracking_uri() else uri
        name = time.strftime(f"cost-{trials}-%Y%m%d-%H%M%S")
        words = [*SMALL, f"--trials={trials}", f"--scheduler={options.scheduler}", f"--run-name={name}"]
        words += [f"--max-concurrent={options.max_concurrent}", f"--storage={storage}", f"--tracking-uri={uri}"]
        nothing = stack.enter_context(Path("/dev/null").open("w"))
        # as on a terminal, whose table costs more than the lines in a file
        screen = Console(file=nothing, force_terminal=True, width=140, height=50)
        stack.enter_context(patch.object(display, "make_console", lambda: screen))
        stack.enter_context(redirect_stdout(nothing))
        watch = stack.enter_context(watched(torch.device("cpu"), parts))
        for told in ("on_trial_complete", "on_trial_error"):
            stack.enter_context(patch.object(watching.Watch, told, counted(getattr(watching.Watch, told))))
        started = time.perf_counter()
        status = tune.main(words)
        if status:
            raise ValueError(f"tune.py ended with status {status}; its words were: {' '.join(words)}")
        folder = storage / "sweeps" / name
        states = [file.stat().st_size for file in folder.glob("experiment_state-*.json")]
        about = {"trials": trials, "scheduler": options.scheduler, "seconds": time.perf_counter() - started}
        return about | {"samples": samples, "state_bytes": max(states), "mlflow_ms": _one_more(uri, folder)}


def _resident() -> float:
    """Megabytes of this process in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def _one_more(uri: str, folder: Path) -> dict[str, float]:
    """Milliseconds that MLflow takes of one more trial of this sweep: to start, for an evaluation, to end."""
    from pipelines.reporting.summary import trial_closer
    from pipelines.runtime.run_record import read_record
    from pipelines.sweeps.sweep import record_file
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    record = read_record(record_file(folder))
    assert record is not None
    times: list[list[float]] = []
    for i in range(PROBES):
        marks = [time.perf_counter()]
        run_id = start_or_resume_child(uri, "arae-grammar", record["run_id"], f"probe-{i}", params=record["settings"])
        marks.append(time.perf_counter())
        tracker = Tracker(uri, run_id)
        tracker.log(1, {f"figure {i}": 1.0 for i in range(40)})
        tracker.artifact("samples/1.txt", "a man sleeps .\n" * 40)
        tracker.flush()
        marks.append(time.perf_counter())
        trial_closer(uri)({"run_id": run_id, "state": "done"})
        marks.append(time.perf_counter())
        times.append([1000 * (after - before) for before, after in pairwise(marks)])
    return dict(zip(("start", "evaluation", "end"), map(median, zip(*times, strict=True)), strict=True))


def apart(words: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each sweep in a process of its own: memory that one has taken is not the next one's."""
    sweeps = []
    for trials in options.trials:
        command = [sys.executable, str(Path(__file__).resolve()), *words, "--trials", str(trials), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise ValueError(f"the sweep of {trials} trials ended with status {done.returncode}")
        sweeps += json.loads(done.stdout.splitlines()[-1])["sweeps"]
        print(f"{trials} trials: {sweeps[-1]['seconds'] / 60:.1f} minutes", file=sys.stderr)
    return sweeps


def per_trial(sweep: dict[str, Any]) -> dict[str, float]:
    """A sweep's figures for one trial, report or snapshot."""
    first, *_, last = samples = sweep["samples"]
    settled = samples[len(samples) // 5 :]  # the first trials bring the packages along
    reports, ended = last["rows calls"] - first["rows calls"], last["trials"] - first["trials"]
    return {
        "trials": sweep["trials"],
        "minutes": sweep["seconds"] / 60,
        "s/trial": (last["seconds"] - first["seconds"]) / ended,
        "MB": last["memory"],
        "kB/trial": 1000 * linear_regression([s["trials"] for s in settled], [s["memory"] for s in settled]).slope,
        "CPU ms/report": 1000 * (last["cpu"] - first["cpu"]) / max(1, reports),
        "MLflow ms/trial": 1000 * last["mlflow"] / last["trials"],
        "rows ms/report": 1000 * last["rows"] / last["rows calls"],
        "table ms/report": 1000 * last["table"] / last["rows calls"],
        "prune ms/report": 1000 * last["prune"] / last["rows calls"],
        "ms/snapshot": 1000 * last["snapshot"] / last["snapshot calls"],
        "snapshots": last["snapshot calls"],
        "state kB": sweep["state_bytes"] / 1000,
        **{f"MLflow {name} ms": value for name, value in sweep["mlflow_ms"].items()},
    }


def draw(sweeps: Sequence[dict[str, Any]], file: Path) -> None:
    """The driver as trials ended: what each tenth of them cost, and its memory."""
    from pipelines.evaluation.drawing import new_figure

    figure = new_figure((12, 3.4), f"driver of a sweep, scheduler {sweeps[0]['scheduler']}")
    panels = ("memory", "mlflow", "table", "snapshot")
    units = ("resident, MB", "MLflow, ms a trial", "rows and table, ms a report", "ms a snapshot of Tune's state")
    for i, (part, title) in enumerate(zip(panels, units, strict=True)):
        axis = figure.add_subplot(1, 4, i + 1, title=title, xlabel="trials that have ended")
        for sweep in sweeps:
            axis.plot(*_curve(sweep["samples"], part), marker="o", markersize=3, label=f"{sweep['trials']} trials")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def _curve(samples: Sequence[dict[str, Any]], part: str) -> tuple[list[int], list[float]]:
    if part == "memory":
        return [s["trials"] for s in samples], [s["memory"] for s in samples]
    count = {"mlflow": "trials", "table": "rows calls", "snapshot": "snapshot calls"}[part]
    added = {"table": ("table", "rows")}.get(part, (part,))
    steps = [(a, b) for a, b in pairwise(samples) if b[count] > a[count]]
    spent = [1000 * sum(b[p] - a[p] for p in added) / (b[count] - a[count]) for a, b in steps]
    return [b["trials"] for _, b in steps], spent


def body(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    typed = list(sys.argv[1:] if words is None else words)
    options = parse_options(typed, "Measure what a sweep costs its driver, by the number of trials.", OPTIONS)
    for trials in options.trials:
        at_least("trials", trials, 2)
    sweeps = [measured(options)] if len(options.trials) == 1 else apart(typed, options)
    if options.picture:
        draw(sweeps, options.picture)
    if options.json:
        emit_json({"sweeps": sweeps})
    else:
        from rich.console import Console

        from pipelines.reporting.display import rows_table

        Console(width=200, highlight=False).print(rows_table([per_trial(sweep) for sweep in sweeps], "driver"))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
