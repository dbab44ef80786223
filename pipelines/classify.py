"""Learn classes from few labels: with them alone, with an autoencoder of all sentences, with a regularized one.

    python pipelines/classify.py --config snli-entailment --data.source DIR --labels 3000,6000 --seeds 3
    python pipelines/classify.py --config yelp --data.source DIR --labels 100,1000,10000

Trains a classifier for each method, number of labels and seed (paper, section 6.3), prints the table, and keeps the
best one for predict.py. The same command with the same --run-name trains only what is missing.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse, run
from pipelines.experiment.environment import python
from pipelines.experiment.errors import FailedError

if TYPE_CHECKING:
    from pipelines.experiment.settings import Classification

METHODS = ("supervised", "ae", "arae")
"""The labelled examples alone; with a plain autoencoder of all sentences; with an adversarially regularized one."""
OPTIONS = (
    Option("labels", tuple[int, ...], (300, 1000), "Labelled examples, of every class as many; 0: all there are."),
    Option("methods", tuple[str, ...], METHODS, f"What is trained: {', '.join(METHODS)}."),
    Option("seeds", int, 1, "Trainings of each, with the seeds from --seed on."),
    Option("run_name", str, "", "Name of the run, to go on with it later (default: the configuration and the time)."),
)


def classify(arguments: Sequence[str] | None) -> None:
    asked = parse(arguments, "Learn classes from few labels.", OPTIONS, "grammar-entailment", classification=True)
    experiment, options = asked.experiment, asked.options
    from arae_core.settings.tree import flatten
    from pipelines.experiment.settings import Classification

    assert isinstance(experiment, Classification)
    check_table(experiment, options.labels, options.methods, options.seeds)
    from pipelines.classification import semi_supervised
    from pipelines.classification.classifier_trial import ClassifierPlan, ClassifierTrial
    from pipelines.corpora.corpus import check_source, prepare, prepare_labelled
    from pipelines.evaluation import plots, published
    from pipelines.experiment.settings import BUILT_IN
    from pipelines.reporting import display, summary
    from pipelines.runtime import cluster, run_record
    from pipelines.runtime.preflight import check_shared
    from pipelines.runtime.run_lock import acquire
    from pipelines.tracking.runs import Tracker, open_tracking, start_parent

    console = display.make_console()
    storage = cluster.writable(options.storage)
    name = options.run_name or f"{experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_record.check_name(name)
    if not cluster.attached():
        semi_supervised.classifier_resources(cluster.this_machine(), 1, experiment)
    folder = storage / "classifications" / name
    settings = flatten(experiment)
    record = run_record.read_record(folder / "run.json")
    if record:
        run_record.check_unchanged(record["settings"], settings, f"run {name}")
    check_source(experiment)
    uri = open_tracking(options.tracking_uri)
    corpus = prepare(experiment.without_labels, storage)
    labelled, report = prepare_labelled(experiment, corpus, storage)
    if record:
        run_record.check_unchanged(record, {"data": [corpus.fingerprint, labelled.name]}, f"run {name}")
        console.print(f"going on with run {name}")
    check_start(experiment, corpus.report["train"]["kept"])
    console.print(f"without labels: {corpus.report['train']['kept']:,} sentences")
    for split in ("train", "validation", "test"):
        console.print(f"labelled, {split}: {described(report[split])}", soft_wrap=True)
    cells = [
        ClassifierTrial(method, count, experiment.seed + i)
        for count in counts_of(options.labels, report)
        for method in options.methods
        for i in range(options.seeds)
    ]
    mlflow_name = f"arae-{experiment.name}"
    release = acquire(folder, f"run {name}")
    before, tags = (record or {}).get("run_id"), {"command": "classify"}
    run_id = start_parent(uri, mlflow_name, name, params=settings, tags=tags, resume=before, storage=storage)
    content = {"settings": settings, "data": [corpus.fingerprint, labelled.name]}
    run_record.write_record(folder / "run.json", (record or content) | {"run_id": run_id})
    tracker = Tracker(uri, run_id)
    classes, per = tuple(report["train"]["classes"]), report["sentences"]
    plan = ClassifierPlan(
        settings, str(corpus.folder), str(labelled), classes, per, str(folder), uri, mlflow_name, run_id
    )
    status = "FAILED"
    try:
        console.print("starting Ray")
        with cluster.running() as room:
            check_shared(storage, uri)
            with display.ClassifiersDisplay(console, name, len(cells)) as shown:
                rows = semi_supervised.train_classifiers(cells, plan, room, shown.started, shown.ended, shown.progress)
        if all("diverged" in row for row in rows):
            raise FailedError(rows[0]["diverged"])
        means = semi_supervised.mean_accuracies(rows)
        real = experiment.data.source not in BUILT_IN and per == 2
        shown_rows = [*means, *(published.FEW_LABELS if real else ())]
        console.print(display.rows_table(shown_rows, "accuracy on test, %"))
        figure = plots.accuracy_figure(shown_rows)
        figure.savefig(folder / "accuracy.png", dpi=120)
        tracker.figure("accuracy.png", figure)
        tracker.artifact("accuracy.json", means)
        best = semi_supervised.keep_best(folder)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        words = list(sys.argv[1:] if arguments is None else arguments)
        raise KeyboardInterrupt(summary.again("classify.py", words, "--run-name", name)) from None
    finally:
        tracker.finish(status)
        release()
    console.print(f"\npicture: {folder / 'accuracy.png'}", soft_wrap=True)
    console.print(f"next: {python()} pipelines/predict.py --model {best} --input FILE", soft_wrap=True)
    if options.json:
        emit_json({"rows": rows, "summary": means, "best": str(best), "run_id": run_id, "name": name})


def check_table(experiment: object, labels: Sequence[int], methods: Sequence[str], seeds: int) -> None:
    """Raise ValueError unless there is something to train, all of it possible."""
    from pipelines.experiment.settings import Experiment

    assert isinstance(experiment, Experiment)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"--methods must be among {', '.join(METHODS)}, got {method!r}")
    if not methods or len(set(methods)) != len(methods):
        raise ValueError(f"--methods must be one or more of {', '.join(METHODS)}, each once, got {','.join(methods)!r}")
    if not labels or min(labels) < 0 or len(set(labels)) != len(labels):
        raise ValueError(f"--labels must be different whole numbers >= 0, got {','.join(map(str, labels))!r}")
    if not 1 <= seeds <= 100:
        raise ValueError(f"--seeds must be from 1 to 100, got {seeds}")
    if experiment.seed + seeds > 2**32:
        raise ValueError(f"seed must be <= {2**32 - seeds} with --seeds {seeds}, got {experiment.seed}")
    if "arae" in methods and not experiment.adversarial:
        raise ValueError("critic.objective must not be none for method arae; --methods supervised,ae leaves it out")


def check_start(experiment: "Classification", sentences: int) -> None:
    """Raise ValueError where the autoencoder, of so many sentences, would leave no iteration to the labels."""
    from pipelines.classification.classifier_trial import steps_of

    begin, end = steps_of(experiment, experiment.head, sentences)
    if begin >= end:
        raise ValueError(
            f"head.start must leave at least one of the {end} iterations to the labels, got {experiment.head.start}; "
            "lower it, or train longer"
        )


def described(counts: Mapping[str, Any]) -> str:
    """What a split holds, in words."""
    classes = ", ".join(f"{count:,} {name}" for name, count in counts["classes"].items())
    reasons = {
        "without a class or a text": counts["left_out"],
        "repeated": counts["repeated"],
        "in another split": counts["in_other_split"],
    }
    told = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    left_out = f" (left out: {told})" if told else ""
    shortened = f"; {counts['shortened']:,} read no further than `longest`" if counts["shortened"] else ""
    return f"{sum(counts['classes'].values()):,} examples: {classes}{left_out}{shortened}"


def counts_of(labels: Sequence[int], report: Mapping[str, Any]) -> list[int]:
    """The numbers of labels asked for, 0 made to what there is in equal measure of every class.

    Raises ValueError for fewer than there are classes and for more than there are examples of the rarest.
    """
    classes = report["train"]["classes"]
    most = len(classes) * min(classes.values())
    for count in labels:
        if count and not len(classes) <= count <= most:
            raise ValueError(
                f"--labels must be from {len(classes)} to {most}, as many of each of {', '.join(classes)}; got {count}"
            )
    return [count or most for count in labels]


def main(arguments: Sequence[str] | None = None) -> int:
    return run(classify, arguments)


if __name__ == "__main__":
    sys.exit(main())
