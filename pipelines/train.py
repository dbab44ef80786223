"""Train one model and register it.

    python pipelines/train.py --config snli --data.source DIR --workers 2 --epochs 3 --run-name NAME

The same command with the same --run-name resumes the run after any interruption.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse, run
from pipelines.experiment.errors import FailedError
from pipelines.experiment.settings import changeable_on_resume

OPTIONS = (
    Option("run_name", str, "", "Name of the run, by which it resumes (default: the preset and the time)."),
    Option("no_register", bool, False, "Do not register the model."),
)


def train(arguments: Sequence[str] | None) -> None:
    parsed = parse(arguments, "Train an adversarially regularized autoencoder.", OPTIONS)
    experiment, options = parsed.experiment, parsed.options
    from arae_core.settings.tree import flatten
    from pipelines.corpora.corpus import check_source, prepare
    from pipelines.reporting import display, plots, summary
    from pipelines.runtime import cluster
    from pipelines.runtime.session import find_run, open_session, resume_command
    from pipelines.tracking.store import open_tracking
    from pipelines.training import trainer
    from pipelines.training.resources import training_resources
    from pipelines.training.worker import Task

    console = display.make_console()
    storage = cluster.writable(options.storage)
    named = find_run(storage / "trainings", options.run_name, experiment.name)
    if not cluster.attached():
        training_resources(cluster.this_machine(), experiment)
    settings = flatten(experiment)
    named.check_settings(settings, changeable_on_resume())
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment, storage)
    data = {"data_fingerprint": corpus.fingerprint}
    named.check_data(data)
    console.print("\n".join([*named.notes(), *corpus.summary()]))
    record = named.record or {"settings": settings, **data}
    resume = resume_command("train", parsed.words, named.name)
    with open_session(named, record, uri, settings, {**data, "command": "train"}, storage, resume) as session:
        session.tracker.artifact("settings.json", settings)
        session.tracker.artifact("data.json", corpus.report)
        with session.start_ray(console) as room:
            workers = training_resources(room, experiment)
            console.print(f"{named.title}: {workers} on {room}, checkpoints in {named.folder}", soft_wrap=True)
            task = Task(settings, str(corpus.folder), uri, session.run_id)
            with display.TrainingDisplay(console, named.name) as progress:
                outcome = trainer.fit(task, workers, named.name, named.folder.parent, progress.show)
        session.open_tracker(outcome.unsent)  # a worker may have lost MLflow, and this process not
        if outcome.diverged:
            saved = f"the best checkpoint is {outcome.checkpoint}" if outcome.checkpoint else "no checkpoint was saved"
            raise FailedError(f"{outcome.diverged}; {saved}")
        best, metrics = outcome.checkpoint, outcome.metrics
        assert best is not None
        console.print(display.metrics_table(metrics, f"best evaluation, step {metrics['step']}"))
        registered = None
        if not options.no_register:
            registered = summary.register_once(
                experiment, best, metrics, uri, session.run_id, corpus.fingerprint, console, named.file
            )
        summary.show_model(best, experiment.seed, console, session.tracker)
        curves = plots.read_curves(uri, session.run_id)
        picture = session.save_figure("curves.png", plots.run_figure(curves, named.name))
    console.print(f"\npicture: {picture}")
    console.print(f"next: {summary.next_command(best, registered, uri, experiment.kind)}", soft_wrap=True)
    if options.json:
        results = {"run_id": session.run_id, "checkpoint": str(best), "metrics": metrics, "name": named.name}
        model, version = (registered.name, registered.version) if registered else (None, None)
        emit_json({**results, "model": model, "model_version": version})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(train, arguments)


if __name__ == "__main__":
    sys.exit(main())
