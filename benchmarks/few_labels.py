"""The table of classifiers with few labels, by the core alone: for a machine with a GPU and without Ray or MLflow.

    python benchmarks/few_labels.py --config snli-entailment --data.source DATA --only-prepare     # needs `datasets`
    python benchmarks/few_labels.py --config snli-entailment --corpus FOLDER --labelled FOLDER --labels 3000 --seeds 3

What `classify.py` trains, one after the other, each row in --out as soon as it is there.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.classify import METHODS, check_table, counts_of
from pipelines.cli.command_line import Arguments, Option, parse, run
from pipelines.experiment.settings import Classification

OPTIONS = (
    Option("labels", tuple[int, ...], (1000,), "Labelled examples, with commas."),
    Option("methods", tuple[str, ...], METHODS, f"Some of {', '.join(METHODS)}."),
    Option("seeds", int, 1, "Of each number of labels."),
    Option("corpus", Path, None, "Folder of prepared sentences. Default: prepared now, in --storage."),
    Option("labelled", Path, None, "Folder of prepared labelled examples, as --only-prepare says it."),
    Option("only_prepare", bool, False, "Prepare the data, say where they are, and stop."),
    Option("out", Path, Path("few-labels.json"), "File for the rows."),
    Option("threads", int, 2, "Threads that torch may use."),
)


def rows_of(arguments: Arguments, corpus: Path, labelled: Path, device: str) -> list[dict[str, Any]]:
    """Train them all; a row for each."""
    from arae_core.settings.tree import flatten
    from arae_core.training.checkpoint import save_checkpoint
    from arae_core.training.loop import train
    from arae_core.training.state import TrainingState
    from pipelines.classification.classifier_trial import Cell, Plan, learn_classifier, settings_of, steps_of
    from pipelines.corpora.corpus import Corpus

    experiment, options = arguments.experiment, arguments.options
    assert isinstance(experiment, Classification)
    report = json.loads((labelled / "labelled.json").read_text(encoding="utf-8"))
    classes, per = tuple(report["train"]["classes"]), report["sentences"]
    data, rows = Corpus.load(corpus), list[dict[str, Any]]()
    store = data.store("train")
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(flatten(experiment), str(corpus), str(labelled), classes, per, scratch, "", "", "")
        for seed in range(experiment.seed, experiment.seed + options.seeds):
            for method in options.methods:
                asked, start = settings_of(experiment, method, seed), None
                begin, _ = steps_of(asked, experiment.head, len(store))
                if method != "supervised" and begin:
                    state = TrainingState.new(asked.core, data.spec, device)
                    for last in train(state, store, until=begin, every=experiment.evaluate_every):
                        print(f"{method}, seed {seed}: {last.step}/{begin}", flush=True)
                    start = str(save_checkpoint(Path(scratch, f"{method}-{seed}"), state, data.vocabulary))
                for count in counts_of(options.labels, report):
                    cell, started = Cell(method, count, seed), time.perf_counter()
                    try:
                        _, figures = learn_classifier(cell, plan, start, device, lambda step, figures: None)
                    except FloatingPointError as error:
                        figures = {"diverged": str(error)}
                    row = {"method": method, "labels": count, "seed": seed, **figures}
                    rows.append(row | {"seconds": time.perf_counter() - started})
                    print(rows[-1], flush=True)
                    options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def body(words: Sequence[str] | None) -> None:
    """Read the command line, prepare, train, print the table."""
    import torch

    arguments = parse(
        words, "Few labels, by the core alone.", OPTIONS, config="grammar-entailment", classification=True
    )
    experiment, options = arguments.experiment, arguments.options
    assert isinstance(experiment, Classification)
    check_table(experiment, options.labels, options.methods, options.seeds)
    if (options.corpus is None) != (options.labelled is None):
        raise ValueError("--corpus and --labelled are given together, or neither")
    corpus, labelled = options.corpus, options.labelled
    if corpus is None:
        from pipelines.corpora.corpus import prepare, prepare_labelled

        prepared = prepare(replace(experiment.without_labels), options.storage)
        corpus, labelled = prepared.folder, prepare_labelled(experiment, prepared, options.storage)[0]
    if options.only_prepare:
        print(f"--corpus {corpus} --labelled {labelled}")
        return
    torch.set_num_threads(options.threads)
    wanted = experiment.device
    rows = rows_of(
        arguments, corpus, labelled, wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    from rich.console import Console

    from pipelines.classification.semi_supervised import summary
    from pipelines.reporting.display import rows_table

    Console().print(rows_table(summary(rows), "accuracy on test, %"))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
