"""Learn classes from few labels, with the labels alone, with a plain autoencoder or with a regularized one.

    python pipelines/classify.py --config snli-entailment --data.source DIR --labels 3000,6000 --seeds 3
    python pipelines/classify.py --config yelp --data.source DIR --labels 100,1000,10000

Trains a classifier for each method, number of labels and seed (paper, section 6.3), prints the table, and saves the
best one for predict.py. The same command with the same --run-name trains only the missing ones.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.classification.table import METHODS, check_table
from pipelines.cli.command_line import Option, emit_json, parse, run
from pipelines.experiment.environment import command
from pipelines.experiment.errors import FailedError

OPTIONS = (
    Option("labels", tuple[int, ...], (300, 1000), "Labelled examples, equally many of each class; 0: all there are."),
    Option("methods", tuple[str, ...], METHODS, f"Methods to compare, out of {', '.join(METHODS)}."),
    Option("seeds", int, 1, "Repetitions of each, with consecutive seeds from --seed on."),
    Option("run_name", str, "", "Name of the run, by which it resumes (default: the preset and the time)."),
)


def classify(arguments: Sequence[str] | None) -> None:
    parsed = parse(arguments, "Learn classes from few labels.", OPTIONS, "grammar-entailment", classification=True)
    from pipelines.experiment.settings import Classification

    assert isinstance(parsed.experiment, Classification)
    check_table(parsed.experiment, parsed.options.labels, parsed.options.methods, parsed.options.seeds)
    from pipelines.classification import semi_supervised
    from pipelines.classification.classification_run import open_classification
    from pipelines.evaluation import plots, published
    from pipelines.reporting import display
    from pipelines.runtime import cluster

    console = display.make_console()
    opened = open_classification(parsed, cluster.writable(parsed.options.storage))
    with opened.session as session:
        name, folder = session.named.name, session.named.folder
        console.print("\n".join(opened.summary()), soft_wrap=True)
        with (
            session.start_ray(console) as room,
            display.ClassifiersDisplay(console, name, len(opened.trials)) as shown,
        ):
            rows = semi_supervised.train_classifiers(
                opened.trials, opened.plan, room, shown.started, shown.ended, shown.progress
            )
        if all("diverged" in row for row in rows):
            raise FailedError(rows[0]["diverged"])
        means = semi_supervised.mean_accuracies(rows)
        shown_rows = [*means, *(published.FEW_LABELS if opened.is_published else ())]
        console.print(display.rows_table(shown_rows, "accuracy on test, %"))
        picture = session.save_figure("accuracy.png", plots.accuracy_figure(shown_rows))
        session.tracker.artifact("accuracy.json", means)
        best = semi_supervised.keep_best(folder)
    console.print(f"\npicture: {picture}", soft_wrap=True)
    console.print("next:", *command("predict"), f"--model {best} --input FILE", soft_wrap=True)
    if parsed.options.json:
        results = {"rows": rows, "summary": means, "best": str(best)}
        emit_json({**results, "run_id": session.run_id, "name": name})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(classify, arguments)


if __name__ == "__main__":
    sys.exit(main())
