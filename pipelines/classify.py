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

from pipelines.classification.table import METHODS, check_start, check_table, describe_split, label_counts
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
    experiment, options = parsed.experiment, parsed.options
    from arae_core.settings.tree import flatten
    from pipelines.experiment.settings import BUILT_IN, Classification

    assert isinstance(experiment, Classification)
    check_table(experiment, options.labels, options.methods, options.seeds)
    from pipelines.classification import semi_supervised
    from pipelines.classification.classifier_trial import ClassifierPlan, ClassifierTrial
    from pipelines.corpora.corpus import check_source, prepare, prepare_labelled
    from pipelines.evaluation import plots, published
    from pipelines.reporting import display
    from pipelines.runtime import cluster
    from pipelines.runtime.session import find_run, open_session, resume_command
    from pipelines.tracking.store import open_tracking

    console = display.make_console()
    storage = cluster.writable(options.storage)
    named = find_run(storage / "classifications", options.run_name, experiment.name)
    if not cluster.attached():
        semi_supervised.classifier_resources(cluster.this_machine(), 1, experiment)
    settings = flatten(experiment)
    named.check_settings(settings)
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment.without_labels, storage)
    labelled, report = prepare_labelled(experiment, corpus, storage)
    data = {"data": [corpus.fingerprint, labelled.name]}
    named.check_data(data)
    sentences = corpus.report["train"]["kept"]
    check_start(experiment, sentences)
    console.print("\n".join([*named.notes(), f"without labels: {sentences:,} sentences"]))
    for split in ("train", "validation", "test"):
        console.print(f"labelled, {split}: {describe_split(report[split])}", soft_wrap=True)
    classes, per_example = report["train"]["classes"], report["sentences"]
    cells = [
        ClassifierTrial(method, count, experiment.seed + i)
        for count in label_counts(options.labels, classes)
        for method in options.methods
        for i in range(options.seeds)
    ]
    record = named.record or {"settings": settings, **data}
    resume = resume_command("classify", parsed.words, named.name)
    with open_session(named, record, uri, settings, {"command": "classify"}, storage, resume) as session:
        with session.start_ray(console) as room:
            folders = str(corpus.folder), str(labelled)
            mlflow = uri, f"arae-{experiment.name}", session.run_id
            plan = ClassifierPlan(settings, *folders, tuple(classes), per_example, str(named.folder), *mlflow)
            with display.ClassifiersDisplay(console, named.name, len(cells)) as shown:
                rows = semi_supervised.train_classifiers(cells, plan, room, shown.started, shown.ended, shown.progress)
        if all("diverged" in row for row in rows):
            raise FailedError(rows[0]["diverged"])
        means = semi_supervised.mean_accuracies(rows)
        comparable = experiment.data.source not in BUILT_IN and per_example == 2
        shown_rows = [*means, *(published.FEW_LABELS if comparable else ())]
        console.print(display.rows_table(shown_rows, "accuracy on test, %"))
        picture = session.save_figure("accuracy.png", plots.accuracy_figure(shown_rows))
        session.tracker.artifact("accuracy.json", means)
        best = semi_supervised.keep_best(named.folder)
    console.print(f"\npicture: {picture}", soft_wrap=True)
    console.print("next:", *command("predict"), f"--model {best} --input FILE", soft_wrap=True)
    if options.json:
        results = {"rows": rows, "summary": means, "best": str(best)}
        emit_json({**results, "run_id": session.run_id, "name": named.name})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(classify, arguments)


if __name__ == "__main__":
    sys.exit(main())
