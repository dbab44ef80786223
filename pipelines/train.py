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

OPTIONS = (
    Option("run_name", str, "", "Name of the run, by which it resumes (default: the preset and the time)."),
    Option("no_register", bool, False, "Do not register the model."),
)


def train(arguments: Sequence[str] | None) -> None:
    parsed = parse(arguments, "Train an adversarially regularized autoencoder.", OPTIONS)
    from pipelines.reporting import display, plots, summary
    from pipelines.runtime import cluster
    from pipelines.training import trainer
    from pipelines.training.resources import training_resources
    from pipelines.training.training_run import open_training

    console = display.make_console()
    opened = open_training(parsed, cluster.writable(parsed.options.storage))
    experiment, corpus, uri = opened.experiment, opened.corpus, opened.session.tracking_uri
    with opened.session as session:
        named = session.named
        console.print("\n".join(opened.summary()))
        session.tracker.artifact("settings.json", opened.settings)
        session.tracker.artifact("data.json", corpus.report)
        with session.start_ray(console) as room:
            workers = training_resources(room, experiment)
            console.print(f"{named.title}: {workers} on {room}, checkpoints in {named.folder}", soft_wrap=True)
            with display.TrainingDisplay(console, named.name) as progress:
                outcome = trainer.fit(opened.task, workers, named.name, named.folder.parent, progress.show)
        session.open_tracker(outcome.unsent)  # a worker may have lost MLflow, and this process not
        if outcome.diverged:
            saved = f"the best checkpoint is {outcome.checkpoint}" if outcome.checkpoint else "no checkpoint was saved"
            raise FailedError(f"{outcome.diverged}; {saved}")
        best, metrics = outcome.checkpoint, outcome.metrics
        assert best is not None
        console.print(display.metrics_table(metrics, f"best evaluation, step {metrics['step']}"))
        registered = None
        if not parsed.options.no_register:
            registered = summary.register_once(
                experiment, best, metrics, uri, session.run_id, corpus.fingerprint, console, named.file
            )
        summary.show_model(best, experiment.seed, console, session.tracker)
        picture = session.save_figure(
            "curves.png", plots.run_figure(plots.read_curves(uri, session.run_id), named.name)
        )
    console.print(f"\npicture: {picture}")
    console.print(f"next: {summary.next_command(best, registered, uri, experiment.kind)}", soft_wrap=True)
    if parsed.options.json:
        results = {"run_id": session.run_id, "checkpoint": str(best), "metrics": metrics, "name": named.name}
        model, version = (registered.name, registered.version) if registered else (None, None)
        emit_json({**results, "model": model, "model_version": version})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(train, arguments)


if __name__ == "__main__":
    sys.exit(main())
