"""Cost of a sweep to its driver, by the number of trials.

    python benchmarks/sweep_cost.py --trials 10,50,200 --picture sweep-cost.png

Runs tune.py with a model so small that the trials themselves cost little, each sweep in a process of its own. Storage
and MLflow's database are temporary unless they are named.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least
from benchmarks import harness
from pipelines.cli.command_line import Option, emit_json, parse_options
from pipelines.experiment.environment import default_storage, default_tracking_uri

if TYPE_CHECKING:
    from benchmarks.parts import Stopwatch, Timed

SMALL = (
    *("--config=grammar", "--data.size=600", "--batch-size=14", "--iterations=4", "--evaluate-every=2"),
    *("--log-every=1", "--samples=30", "--encoder.embedding=5", "--encoder.hidden=13", "--decoder.embedding=5"),
    *("--decoder.hidden=13", "--code.size=11", "--generator.noise-size=3", "--generator.hidden=8"),
    *("--critic.hidden=8", "--max-failures=0"),
)
"""Settings of a trial that trains for milliseconds."""
SAMPLES = 10
"""Number of times that the driver is sampled during a sweep."""
PROBES = 7
"""Trials that are created in MLflow after a sweep, to measure the cost of one more."""

OPTIONS = (
    Option("trials", tuple[int, ...], (10, 50, 200), "Numbers of trials, a sweep for each."),
    Option("scheduler", str, "none", "Scheduler, as for tune.py.", ("asha", "pbt", "none")),
    Option("max_concurrent", int, 0, "Trials at the same time at most; 0: as many as fit."),
    Option("picture", Path, None, "File for a picture of the sweeps."),
)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run a sweep in this process, its driver; return totals, and `samples` of the driver as trials end."""
    from pipelines import tune

    trials = options.trials[0]
    with tempfile.TemporaryDirectory() as own:
        storage = Path(own) if options.storage == default_storage() else options.storage
        uri = options.tracking_uri
        uri = f"sqlite:///{own}/mlflow.db" if uri == default_tracking_uri() else uri
        name = time.strftime(f"cost-{trials}-%Y%m%d-%H%M%S")
        words = [*SMALL, f"--trials={trials}", f"--scheduler={options.scheduler}", f"--run-name={name}"]
        words += [f"--max-concurrent={options.max_concurrent}", f"--storage={storage}", f"--tracking-uri={uri}"]
        started = time.perf_counter()
        with _hidden_terminal(), _sampled_driver(trials) as samples:
            status = tune.main(words)
        if status:
            raise ValueError(f"tune.py ended with status {status}; its arguments were: {' '.join(words)}")
        folder = storage / "sweeps" / name
        states = [file.stat().st_size for file in folder.glob("experiment_state-*.json")]
        facts = {"trials": trials, "scheduler": options.scheduler, "seconds": time.perf_counter() - started}
        return facts | {"samples": samples, "state_bytes": max(states), "mlflow_ms": _one_more(uri, folder)}


@contextmanager
def _hidden_terminal() -> Iterator[None]:
    """Discard the output, but render it as for a terminal, whose table costs more than lines in a file."""
    from rich.console import Console

    from pipelines.reporting import display

    with Path("/dev/null").open("w") as nothing:
        screen = Console(file=nothing, force_terminal=True, width=140, height=50)
        with patch.object(display, "make_console", lambda: screen), redirect_stdout(nothing):
            yield


@contextmanager
def _sampled_driver(trials: int) -> Iterator[list[dict[str, Any]]]:
    """Within the block, sample this process's time and memory SAMPLES times as the trials of a sweep end."""
    import torch

    from benchmarks.parts import stopwatch
    from pipelines.sweeps import tune_callback

    samples, ended, started = list[dict[str, Any]](), 0, time.perf_counter()

    def counting(original: Callable[..., None]) -> Callable[..., None]:
        def end(*arguments: Any, **named: Any) -> None:
            nonlocal ended
            original(*arguments, **named)
            ended += 1
            if ended % max(1, trials // SAMPLES) == 0 or ended == trials:
                times = {"seconds": time.perf_counter() - started, "cpu": time.process_time()}
                samples.append({"trials": ended, "memory": harness.resident_mb(), **times, **_totals(watch)})

        return end

    callback = tune_callback.SweepCallback
    with (
        stopwatch(torch.device("cpu"), _timed()) as watch,
        patch.object(callback, "on_trial_complete", counting(callback.on_trial_complete)),
        patch.object(callback, "on_trial_error", counting(callback.on_trial_error)),
    ):
        yield samples


def _timed() -> "tuple[Timed, ...]":
    from ray.tune.execution.tune_controller import TuneController

    from pipelines.reporting.display import TrialsDisplay
    from pipelines.sweeps import tune_callback
    from pipelines.tracking.runs import Tracker

    return (
        (tune_callback.SweepCallback, "on_trial_result", "rows"),
        (TrialsDisplay, "show", "table"),
        (tune_callback, "prune_checkpoints", "prune"),
        (Tracker, "_send", "mlflow"),
        (TuneController, "save_to_dir", "snapshot"),
    )


def _totals(watch: "Stopwatch") -> dict[str, float]:
    seconds = {part: watch.seconds[part] for _, _, part in _timed()}
    return seconds | {f"{part} calls": watch.calls[part] for part in ("rows", "mlflow", "snapshot")}


def _one_more(uri: str, folder: Path) -> dict[str, float]:
    """Return the milliseconds that MLflow takes to start, evaluate and end one more trial of this sweep."""
    from pipelines.reporting.summary import trial_closer
    from pipelines.runtime.run_record import read_record
    from pipelines.tracking.runs import Tracker, start_or_resume_child

    record = read_record(folder / "sweep.json")
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


def in_new_processes(words: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run each sweep in a new process, so that no sweep includes the memory of another."""
    sweeps = []
    for trials in options.trials:
        command = [sys.executable, str(Path(__file__).resolve()), *words, "--trials", str(trials), "--json"]
        sweeps += harness.last_json(f"the sweep of {trials} trials", command, show_errors=True)["sweeps"]
        print(f"{trials} trials: {sweeps[-1]['seconds'] / 60:.1f} minutes", file=sys.stderr)
    return sweeps


def per_trial(sweep: dict[str, Any]) -> dict[str, float]:
    """Return a sweep's figures per trial, report and snapshot."""
    first, *_, last = samples = sweep["samples"]
    settled = samples[len(samples) // 5 :]  # the first trials load packages
    reports, ended = last["rows calls"] - first["rows calls"], last["trials"] - first["trials"]
    return {
        "trials": sweep["trials"],
        "minutes": sweep["seconds"] / 60,
        "s/trial": (last["seconds"] - first["seconds"]) / ended,
        "MB": last["memory"],
        "kB/trial": 1000 * linear_regression([s["trials"] for s in settled], [s["memory"] for s in settled]).slope,
        "CPU ms/report": 1000 * (last["cpu"] - first["cpu"]) / max(1, reports),
        "MLflow ms/trial": 1000 * last["mlflow"] / last["trials"],
        **{f"{part} ms/report": 1000 * last[part] / last["rows calls"] for part in ("rows", "table", "prune")},
        "ms/snapshot": 1000 * last["snapshot"] / last["snapshot calls"],
        "snapshots": last["snapshot calls"],
        "state kB": sweep["state_bytes"] / 1000,
        **{f"MLflow {name} ms": value for name, value in sweep["mlflow_ms"].items()},
    }


def draw(sweeps: Sequence[dict[str, Any]], file: Path) -> None:
    """Save a picture of the driver's memory and of the cost of each tenth of the trials."""
    from pipelines.evaluation.drawing import new_figure

    figure = new_figure((12, 3.4), f"driver of a sweep, scheduler {sweeps[0]['scheduler']}")
    panels = ("memory", "mlflow", "table", "snapshot")
    titles = ("resident, MB", "MLflow, ms per trial", "rows and table, ms per report", "Tune's state, ms per snapshot")
    for i, (part, title) in enumerate(zip(panels, titles, strict=True)):
        axis = figure.add_subplot(1, 4, i + 1, title=title, xlabel="ended trials")
        for sweep in sweeps:
            axis.plot(*_curve(sweep["samples"], part), marker="o", markersize=3, label=f"{sweep['trials']} trials")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    harness.save_picture(figure, file)


def _curve(samples: Sequence[dict[str, Any]], part: str) -> tuple[list[int], list[float]]:
    """Return the numbers of ended trials, and at each the memory, or the milliseconds of the part since the last."""
    if part == "memory":
        return [s["trials"] for s in samples], [s["memory"] for s in samples]
    count = {"mlflow": "trials", "table": "rows calls", "snapshot": "snapshot calls"}[part]
    added = {"table": ("table", "rows")}.get(part, (part,))
    steps = [(a, b) for a, b in pairwise(samples) if b[count] > a[count]]
    spent = [1000 * sum(b[p] - a[p] for p in added) / (b[count] - a[count]) for a, b in steps]
    return [b["trials"] for _, b in steps], spent


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    given = list(sys.argv[1:] if words is None else words)
    options = parse_options(given, "Measure what a sweep costs its driver, by the number of trials.", OPTIONS)
    for trials in options.trials:
        at_least("trials", trials, 2)
    sweeps = [measured(options)] if len(options.trials) == 1 else in_new_processes(given, options)
    if options.picture:
        draw(sweeps, options.picture)
    if options.json:
        emit_json({"sweeps": sweeps})
    else:
        harness.print_rows([per_trial(sweep) for sweep in sweeps], "driver", width=200)


if __name__ == "__main__":
    sys.exit(main())
