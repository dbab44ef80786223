"""Cost of Ray and MLflow: a job or a sweep, compared with the same training by the core alone.

    python benchmarks/overhead.py --address http://127.0.0.1:8265 --tracking-uri http://127.0.0.1:5000 --iterations 8000
    python benchmarks/overhead.py --trials 4 --iterations 1000

Both ways train the same number of iterations, score the same samples at the same evaluations and save the same
checkpoints, on one thread.

The first command compares whole processes, imports included. `ray job submit` additionally starts its workers, logs
curves, registers the model and draws its pictures. It needs a Ray cluster on this machine, and MLflow. The second
compares the training of a trial with the time from its start to the start of the next, in a sweep that runs one trial
at a time on a cluster of its own.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import at_least, require
from benchmarks import harness
from pipelines.cli.command_line import Arguments, Option, emit_json, show

OPTIONS = (
    Option("address", str, "http://127.0.0.1:8265", "Address of the cluster's dashboard."),
    Option("trials", int, 0, "Trials of the sweep to measure; 0 measures a job."),
    Option("rounds", int, 1, "Times that a job is measured."),
    Option("alone", bool, False, "Only train, by the core alone, in this process."),
)


def train_alone(arguments: Arguments) -> list[float]:
    """Train, evaluate and save checkpoints without Ray or MLflow; return the seconds of each trial."""
    import torch

    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.loop import total_iterations, train
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import prepare
    from pipelines.training.scoring import Scorer

    torch.set_num_threads(1)
    experiment = arguments.experiment
    corpus = prepare(experiment, arguments.options.storage)
    settings, store, scorer = experiment.core, corpus.store("train"), Scorer(experiment, corpus)
    end, seconds = total_iterations(settings, len(store)), []
    for _ in range(max(1, arguments.options.trials)):
        started = time.monotonic()
        state = TrainingState.new(settings, corpus.spec)
        with tempfile.TemporaryDirectory() as folder:
            for report in train(state, store, until=end, every=experiment.log_every):
                if report.step % experiment.evaluate_every == 0 or report.step == end:
                    scorer.score(state)
                    save_checkpoint(Path(folder, f"{report.step}"), state, corpus.vocabulary)
        seconds.append(time.monotonic() - started)
    return seconds


def alone_command(arguments: Arguments, storage: Path) -> list[str]:
    """Return the command that trains by the core alone in another process."""
    options = arguments.options
    command = [sys.executable, str(Path(__file__).resolve()), "--alone", "--json", f"--trials={options.trials}"]
    return [*command, f"--config={options.config}", *harness.setting_flags(arguments), f"--storage={storage}"]


def measure_job(arguments: Arguments) -> dict[str, Any]:
    """Return the seconds of a job and of the core alone in every round, and the median excess of the job."""
    options = arguments.options
    uri = options.tracking_uri
    require(uri.startswith("http"), "tracking-uri", uri, "the http://HOST:PORT of a server")
    storage = _prepared(arguments)
    environment = {"RAY_AUTH_MODE": "token", **os.environ, "RAY_API_SERVER_ADDRESS": options.address}
    rounds = []
    for i in range(options.rounds):
        train = ["python", "pipelines/train.py", *harness.setting_flags(arguments), f"--config={options.config}"]
        train += [f"--storage={storage}", f"--tracking-uri={uri}", time.strftime("--run-name=overhead-%Y%m%d-%H%M%S")]
        job = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--working-dir", str(harness.ROOT), "--"]
        seconds = {}
        for name, command in (("alone", alone_command(arguments, storage)), ("job", job + train)):
            started = time.monotonic()
            harness.run_command(f"training ({name})", command, env=environment, cwd=harness.ROOT)
            seconds[name] = time.monotonic() - started
        rounds.append(seconds | {"more": seconds["job"] / seconds["alone"] - 1})
        print("round {}: alone {alone:.0f} s, as a job {job:.0f} s".format(i + 1, **seconds), file=sys.stderr)
    return {"config": options.config, "rounds": rounds, "more": statistics.median(r["more"] for r in rounds)}


def measure_sweep(arguments: Arguments) -> dict[str, Any]:
    """Return the seconds of a sweep's trials, of its start and end, and of the same training by the core alone."""
    options = arguments.options
    at_least("trials", options.trials, 2)
    storage = _prepared(arguments)
    alone = alone_command(arguments, storage)
    training = harness.last_json("training alone", alone, cwd=harness.ROOT)["seconds"]
    with tempfile.TemporaryDirectory() as own:
        uri = f"sqlite:///{own}/mlflow.db"
        sweep = [sys.executable, "pipelines/tune.py", *harness.setting_flags(arguments), f"--config={options.config}"]
        sweep += [f"--trials={options.trials}", f"--storage={own}/runs", f"--tracking-uri={uri}", "--json"]
        sweep += ["--space=learning_rates", "--scheduler=none", "--max-concurrent=1"]
        shutil.copytree(storage / "data", Path(own, "runs", "data"))
        began = time.time()
        run_id = harness.last_json("the sweep", sweep, cwd=harness.ROOT)["run_id"]
        ended = time.time()
        starts, last = _trials(uri, run_id)
    trials = [after - before for before, after in pairwise([*starts, last])]
    return {
        "config": options.config,
        "training": training,
        "trials": trials,
        "start": starts[0] - began,
        "end": ended - last,
        "more": statistics.median(trials[1:]) / statistics.median(training[1:]) - 1,
        "whole": (ended - began) / sum(training) - 1,
    }


def _prepared(arguments: Arguments) -> Path:
    """Prepare the data, so that no measurement includes it; return the storage folder."""
    from pipelines.corpora.corpus import prepare

    storage = Path(arguments.options.storage).resolve()
    prepare(arguments.experiment, storage)
    return storage


def _trials(tracking_uri: str, sweep: str) -> tuple[list[float], float]:
    """Return the start times of the sweep's trials in order, and the end of the last, in seconds since 1970."""
    from pipelines.tracking.store import connect

    client = connect(tracking_uri)
    parent = client.get_run(sweep)
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{sweep}'")
    starts = sorted(child.info.start_time / 1000 for child in children)
    return starts, max(child.info.end_time for child in children) / 1000


def text(report: dict[str, Any]) -> str:
    """Format the report of a job or of a sweep."""
    more = 100 * report["more"]
    if "rounds" in report:
        return f"a job takes {more:.1f} % longer than the core alone (median of {len(report['rounds'])})"
    trial, training = (statistics.median(report[name][1:]) for name in ("trials", "training"))
    return (
        f"a trial takes {trial:.1f} s, its training alone {training:.1f} s ({more:.1f} % longer); the sweep takes "
        f"{report['start']:.1f} s to start its first trial and {report['end']:.1f} s after its last"
    )


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, measure, print."""
    arguments = harness.parse(words, "Measure what a job or a sweep costs beyond its training.", OPTIONS, "grammar")
    if arguments.options.alone:
        seconds = train_alone(arguments)
        if arguments.options.json:
            emit_json({"seconds": seconds})
        return
    show(measure_sweep(arguments) if arguments.options.trials else measure_job(arguments), text, arguments.options)


if __name__ == "__main__":
    sys.exit(main())
