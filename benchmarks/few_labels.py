"""Few-label classification by the core alone, for a machine with a GPU and without Ray or MLflow.

    python benchmarks/few_labels.py --config snli-entailment --data.source DATA --only-prepare     # needs `datasets`
    python benchmarks/few_labels.py --config snli-entailment --corpus FOLDER --labelled FOLDER --labels 3000 --seeds 3

Trains the same classifiers as `classify.py`, one after the other. Every row is saved in --out as soon as it exists.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import harness
from pipelines.classification.table import METHODS, check_table, label_counts
from pipelines.cli.command_line import Arguments, Option
from pipelines.experiment.settings import Classification, Experiment

if TYPE_CHECKING:
    from pipelines.corpora.corpus import Corpus

OPTIONS = (
    Option("labels", tuple[int, ...], (1000,), "Numbers of labelled examples."),
    Option("methods", tuple[str, ...], METHODS, f"Methods, some of {', '.join(METHODS)}."),
    Option("seeds", int, 1, "Seeds for each number of labels."),
    Option("corpus", Path, None, "Folder of prepared sentences. Default: prepare the data now, in --storage."),
    Option("labelled", Path, None, "Folder of prepared labelled examples, as printed by --only-prepare."),
    Option("only_prepare", bool, False, "Prepare the data, print the folders, and stop."),
    Option("out", Path, Path("few-labels.json"), "File for the rows."),
    harness.THREADS,
)


def rows_of(arguments: Arguments, corpus: Path, labelled: Path, device: str) -> list[dict[str, Any]]:
    """Train all classifiers; return a row for each."""
    from arae_core.settings.tree import flatten
    from pipelines.classification.classifier_trial import (
        ClassifierPlan,
        ClassifierTrial,
        autoencoder_experiment,
        learn_classifier,
    )
    from pipelines.corpora.corpus import Corpus

    experiment, options = arguments.experiment, arguments.options
    assert isinstance(experiment, Classification)
    report = json.loads((labelled / "labelled.json").read_text(encoding="utf-8"))
    classes, per = tuple(report["train"]["classes"]), report["sentences"]
    data, rows = Corpus.load(corpus), list[dict[str, Any]]()
    seeds = range(experiment.seed, experiment.seed + options.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        plan = ClassifierPlan(flatten(experiment), str(corpus), str(labelled), classes, per, scratch, "", "", "")
        for seed, method in [(seed, method) for seed in seeds for method in options.methods]:
            settings, start = autoencoder_experiment(experiment, method, seed), None
            if method != "supervised":
                start = pretrained(settings, experiment, data, Path(scratch, f"{method}-{seed}"), device)
            for count in label_counts(options.labels, report["train"]["classes"]):
                started = time.perf_counter()
                try:
                    _, figures = learn_classifier(
                        ClassifierTrial(method, count, seed), plan, start, device, lambda *_: None
                    )
                except FloatingPointError as error:
                    figures = {"diverged": str(error)}
                row = {"method": method, "labels": count, "seed": seed, **figures}
                rows.append(row | {"seconds": time.perf_counter() - started})
                print(rows[-1], flush=True)
                options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def pretrained(
    settings: Experiment, experiment: Classification, corpus: "Corpus", folder: Path, device: str
) -> str | None:
    """Train the autoencoder that a method starts from; return its checkpoint, or None if head.start is 0."""
    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from pipelines.classification.classifier_trial import steps_of

    store = corpus.store("train")
    begin, _ = steps_of(settings, experiment.head, len(store))
    if not begin:
        return None
    state = TrainingState.new(settings.core, corpus.spec, device)
    for report in train(state, store, until=begin, every=experiment.evaluate_every):
        print(f"{folder.name}: {report.step}/{begin}", flush=True)
    return str(save_checkpoint(folder, state, corpus.vocabulary))


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, prepare, train, print the table."""
    description = "Train classifiers with few labels by the core alone."
    arguments = harness.parse(words, description, OPTIONS, "grammar-entailment", classification=True)
    experiment, options = arguments.experiment, arguments.options
    assert isinstance(experiment, Classification)
    check_table(experiment, options.labels, options.methods, options.seeds)
    if (options.corpus is None) != (options.labelled is None):
        raise ValueError("--corpus and --labelled must be given together")
    corpus, labelled = options.corpus, options.labelled
    if corpus is None:
        from pipelines.corpora.corpus import prepare, prepare_labelled

        prepared = prepare(replace(experiment.without_labels), options.storage)
        corpus, labelled = prepared.folder, prepare_labelled(experiment, prepared, options.storage)[0]
    if options.only_prepare:
        print(f"--corpus {corpus} --labelled {labelled}")
        return
    from pipelines.classification.semi_supervised import mean_accuracies

    device, _ = harness.set_up(arguments)
    rows = rows_of(arguments, corpus, labelled, device.type)
    harness.print_rows(mean_accuracies(rows), "accuracy on test, %")


if __name__ == "__main__":
    sys.exit(main())
