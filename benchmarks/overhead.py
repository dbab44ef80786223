"""What a job costs beyond its training: through `ray job submit`, Ray Train and MLflow, and by the core alone, in turn.

    python benchmarks/overhead.py --address http://127.0.0.1:8265 --tracking-uri http://127.0.0.1:5000 --iterations 8000

Both train as many iterations, score as many samples at as many evaluations and save as many checkpoints, on one thread.
The job besides starts its workers, logs curves, registers the model and draws its pictures. Needs a Ray cluster on this
machine and MLflow; measures whole commands, imports included.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.checks import at_least, require
from pipelines.experiment.command_line import Arguments, Option, emit_json, parse, run
from pipelines.experiment.flags import spelled

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = (
    Option("address", str, "http://127.0.0.1:8265", "The cluster's dashboard."),
    Option("rounds", int, 1, "Turns taken."),
    Option("alone", bool, False, "Only train, by the core alone, in this process."),
)


def train_alone(arguments: Arguments) -> None:
    """The training, its evaluations and checkpoints, without Ray or MLflow."""
    import torch

    from arae_core.checkpoint import save_checkpoint
    from arae_core.state import TrainingState
    from arae_core.training import total_iterations, train
    from pipelines.engine.scoring import Scorer
    from pipelines.engine.worker import core_settings
    from pipelines.experiment.corpora import prepare

    torch.set_num_threads(1)
    experiment = arguments.experiment
    corpus = prepare(experiment, arguments.options.storage)
    settings, store, scorer = core_settings(experiment), corpus.store("train"), Scorer(experiment, corpus)
    state, end = TrainingState.new(settings, corpus.shape), total_iterations(settings, len(store))
    with tempfile.TemporaryDirectory() as folder:
        for report in train(state, store, until=end, every=experiment.log_every):
            if report.step % experiment.evaluate_every == 0 or report.step == end:
                scorer.score(state)
                save_checkpoint(Path(folder, f"{report.step}"), state, corpus.vocabulary)


def in_turn(arguments: Arguments) -> dict[str, Any]:
    """Seconds of both ways, a pair a round, and the median of what the job takes more."""
    from pipelines.experiment.corpora import prepare

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


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise ValueError(f"{shlex.join(command)} ended with status {done.returncode}: {' / '.join(said)}")
    return time.monotonic() - started


def benchmark(arguments: Sequence[str] | None) -> None:
    asked = parse(arguments, "What a job costs beyond its training.", OPTIONS)
    if asked.options.alone:
        train_alone(asked)
        return
    report = in_turn(asked)
    print(f"a job takes {100 * report['more']:.1f} % more than the core alone (median of {len(report['rounds'])})")
    if asked.options.json:
        emit_json(report)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(benchmark, arguments)


if __name__ == "__main__":
    sys.exit(main())
