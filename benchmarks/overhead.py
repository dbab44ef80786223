"""What Ray and MLflow cost beyond training: a job or a sweep, and the same by the core alone, in turn.

    python benchmarks/overhead.py --address http://127.0.0.1:8265 --tracking-uri http://127.0.0.1:5000 --iterations 8000
    python benchmarks/overhead.py --trials 4 --iterations 1000

Both train as many iterations, score as many samples at as many evaluations and save as many checkpoints, on one thread.

The first compares whole commands, imports included: `ray job submit` besides starts its workers, logs curves, registers
the model and draws its pictures. It needs a Ray cluster on this machine and MLflow. The second compares a trial of a
sweep, one at a time in a cluster of its own, from its start to the start of the next, with the training that it is.
"""

import json
import os
import shlex
import shutil
import statistics
import subprocess
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
from pipelines.cli.command_line import Arguments, Option, emit_json, parse, run
from pipelines.cli.flags import spelled

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = (
    Option("address", str, "http://127.0.0.1:8265", "The cluster's dashboard."),
    Option("trials", int, 0, "Trials of a sweep to measure; 0: a job."),
    Option("rounds", int, 1, "Turns taken, of a job."),
    Option("alone", bool, False, "Only train, by the core alone, in this process."),
)


def train_alone(arguments: Arguments) -> list[float]:
    """The training, its evaluations and checkpoints, without Ray or MLflow: the seconds of each trial, or of one."""
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


def in_turn(arguments: Arguments) -> dict[str, Any]:
    """Seconds of both ways, a pair a round, and the median of what the job takes more."""
    from pipelines.corpora.corpus import prepare

    options = arguments.options
    at_least("rounds", options.rounds, 1)
    require(
        options.tracking_uri.startswith("http"), "tracking-uri", options.tracking_uri, "a server's http://HOST:PORT"
    )
    storage = Path(options.storage).resolve()
    prepare(arguments.experiment, storage)  # neither way pays for it
    given = [f"--{name}={spelled(value)}" for name, value in arguments.given.items()]
    given += [f"--config={options.config}", f"--storage={storage}"]
    alone = [sys.executable, str(Path(__file__).resolve()), "--alone", *given]
    environment = {"RAY_AUTH_MODE": "token", **os.environ, "RAY_API_SERVER_ADDRESS": options.address}
    rounds = []
    for turn in range(options.rounds):
        name = f"overhead-{time.strftime('%Y%m%d-%H%M%S')}"
        train = ["python", "pipelines/train.py", *given, f"--tracking-uri={options.tracking_uri}", "--run-name", name]
        job = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--working-dir", str(ROOT), "--", *train]
        seconds = {"alone": _timed(alone, environment), "job": _timed(job, environment)}
        rounds.append(seconds | {"more": seconds["job"] / seconds["alone"] - 1})
        print("round {}: alone {alone:.0f} s, as a job {job:.0f} s".format(turn + 1, **seconds), file=sys.stderr)
    return {"config": options.config, "rounds": rounds, "more": statistics.median(r["more"] for r in rounds)}


def of_a_sweep(arguments: Arguments) -> dict[str, Any]:
    """Seconds of a sweep's parts and of its trials' training by the core alone."""
    from pipelines.corpora.corpus import prepare

    options = arguments.options
    at_least("trials", options.trials, 2)
    storage = Path(options.storage).resolve()
    prepare(arguments.experiment, storage)
    given = [f"--{name}={spelled(value)}" for name, value in arguments.given.items()]
    given += [f"--config={options.config}", f"--trials={options.trials}"]
    alone = [sys.executable, str(Path(__file__).resolve()), "--alone", *given, f"--storage={storage}", "--json"]
    training = json.loads(_run(alone, dict(os.environ)).splitlines()[-1])["seconds"]
    with tempfile.TemporaryDirectory() as own:
        uri = f"sqlite:///{own}/mlflow.db"
        sweep = [sys.executable, str(ROOT / "pipelines" / "tune.py"), *given, f"--storage={own}/runs", "--json"]
        sweep += ["--space=learning_rates", "--scheduler=none", "--max-concurrent=1", f"--tracking-uri={uri}"]
        shutil.copytree(storage / "data", Path(own, "runs", "data"))
        began = time.time()
        run_id = json.loads(_run(sweep, dict(os.environ)).splitlines()[-1])["run_id"]
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


def _trials(tracking_uri: str, sweep: str) -> tuple[list[float], float]:
    """When the sweep's trials started, in order, and when the last one ended: seconds since 1970."""
    from pipelines.tracking.store import connect

    client = connect(tracking_uri)
    parent = client.get_run(sweep)
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{sweep}'")
    starts = sorted(child.info.start_time / 1000 for child in children)
    return starts, max(child.info.end_time for child in children) / 1000


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    _run(command, environment)
    return time.monotonic() - started


def _run(command: list[str], environment: dict[str, str]) -> str:
    """What the command printed."""
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise ValueError(f"{shlex.join(command)} ended with status {done.returncode}: {' / '.join(said)}")
    return done.stdout


def benchmark(arguments: Sequence[str] | None) -> None:
    asked = parse(arguments, "What a job or a sweep costs beyond its training.", OPTIONS)
    if asked.options.alone:
        seconds = train_alone(asked)
        if asked.options.json:
            emit_json({"seconds": seconds})
        return
    if asked.options.trials:
        report = of_a_sweep(asked)
        each = statistics.median(report["trials"][1:]), statistics.median(report["training"][1:])
        print(
            "a trial takes {:.1f} s, its training alone {:.1f} s: {:.1f} % more; besides, the sweep takes {:.1f} s to "
            "its first trial and {:.1f} s from the last one's end".format(
                *each, 100 * report["more"], report["start"], report["end"]
            )
        )
        if asked.options.json:
            emit_json(report)
        return
    report = in_turn(asked)
    print(f"a job takes {100 * report['more']:.1f} % more than the core alone (median of {len(report['rounds'])})")
    if asked.options.json:
        emit_json(report)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(benchmark, arguments)


if __name__ == "__main__":
    sys.exit(main())
