"""Train one model, on as many workers as asked for, and register it.

python pipelines/train.py --config snli --data.source DIR --workers 2 --epochs 3 [--run-name NAME]

The same command with the same --run-name goes on where it stopped, whatever stopped it.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse, run
from pipelines.experiment.environment import default_tracking_uri
from pipelines.experiment.errors import FailedError

OPTIONS = (
    Option("run_name", str, "", "Name of the run, to go on with it later (default: the configuration and the time)."),
    Option("no_register", bool, False, "Do not put the model into the registry."),
)


def train(arguments: Sequence[str] | None) -> None:
    asked = parse(arguments, "Train an adversarially regularized autoencoder.", OPTIONS)
    experiment, options = asked.experiment, asked.options
    from arae_core.settings.tree import flatten
    from pipelines.corpora.corpus import check_source, prepare
    from pipelines.reporting import display, plots, summary
    from pipelines.runtime import cluster, run_record
    from pipelines.runtime.preflight import check_shared
    from pipelines.runtime.run_lock import acquire
    from pipelines.tracking.runs import Tracker, open_tracking, start_parent
    from pipelines.training import trainer
    from pipelines.training.worker import Task

    console = display.make_console()
    storage = cluster.writable(options.storage)
    name = options.run_name or f"{experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_record.check_name(name)
    if not cluster.attached():
        trainer.share_of(cluster.this_machine(), experiment)
    file, settings = storage / "trainings" / name / "run.json", flatten(experiment)
    record = run_record.read_record(file)
    if record:
        run_record.check_unchanged(
            record["settings"], settings, f"run {name}", changeable=run_record.CHANGEABLE_IN_TRAINING
        )
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment, storage)
    if record:
        run_record.check_unchanged(record, {"data_fingerprint": corpus.fingerprint}, f"run {name}")
        console.print(f"going on with run {name}")
    console.print("\n".join(corpus.summary()))
    mlflow_name, tags = f"arae-{experiment.name}", {"data_fingerprint": corpus.fingerprint, "command": "train"}
    release = acquire(file.parent, f"run {name}")
    before = (record or {}).get("run_id")
    run_id = start_parent(uri, mlflow_name, name, params=settings, tags=tags, resume=before, storage=storage)
    record = record or {"settings": settings, "data_fingerprint": corpus.fingerprint}
    run_record.write_record(file, record | {"run_id": run_id})
    tracker = Tracker(uri, run_id)
    tracker.artifact("settings.json", settings)
    tracker.artifact("data.json", corpus.report)
    task = Task(settings, str(corpus.folder), uri, run_id)
    status = "FAILED"
    try:
        console.print("starting Ray")
        with cluster.running() as room:
            check_shared(storage, uri)
            share = trainer.share_of(room, experiment)
            workers = f"{share.fewest} to {share.workers}" if share.fewest else str(share.workers)
            workers += " worker" + ("s" if share.workers > 1 else "")
            console.print(f"run {name}: {workers} on {room}, checkpoints in {file.parent}", soft_wrap=True)
            with display.TrainingDisplay(console, name) as shown:
                outcome = trainer.fit(task, share, name, file.parent.parent, shown.show)
        tracker = Tracker(uri, run_id, outcome.unsent, resumed=True)  # from here the server may be reached
        if outcome.diverged:
            kept = f"the best checkpoint is {outcome.checkpoint}" if outcome.checkpoint else "no checkpoint was made"
            raise FailedError(f"{outcome.diverged}; {kept}")
        assert outcome.checkpoint is not None
        console.print(display.metrics_table(outcome.metrics, f"best evaluation, step {outcome.metrics['step']}"))
        registered = None
        if not options.no_register:
            registered = summary.register_once(
                experiment, outcome.checkpoint, outcome.metrics, uri, run_id, corpus.fingerprint, console, file
            )
        summary.show_model(outcome.checkpoint, experiment.seed, console, tracker)
        figure = plots.run_picture(plots.read_curves(uri, run_id), name)
        figure.savefig(file.parent / "curves.png", dpi=120)
        tracker.figure("curves.png", figure)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        words = list(sys.argv[1:] if arguments is None else arguments)
        raise KeyboardInterrupt(summary.again("train.py", words, "--run-name", name)) from None
    finally:
        tracker.finish(status)
        release()
    console.print(f"\npicture: {file.parent / 'curves.png'}")
    elsewhere = "" if uri == default_tracking_uri() else uri
    next_command = summary.next_command(outcome.checkpoint, registered, elsewhere, experiment.kind)
    console.print(f"next: {next_command}", soft_wrap=True)
    if options.json:
        version = registered.version if registered else None
        results = {"run_id": run_id, "checkpoint": str(outcome.checkpoint), "metrics": outcome.metrics}
        emit_json({**results, "model_version": version, "model": registered.name if registered else None, "name": name})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(train, arguments)


if __name__ == "__main__":
    sys.exit(main())
