"""The paper's experiments by the core alone, for a machine with a GPU and without Ray or MLflow.

    python benchmarks/experiments.py --config snli --data.source DATA --only-prepare          # needs `datasets`
    python benchmarks/experiments.py --config snli --corpus runs/data/FINGERPRINT --on perplexity,latent,robustness

Trains as `train.py` does, keeps the evaluation that is best on validation, and does with it what `evaluate.py` does on
the test split. What is found is in --out as soon as it is found: NAME.json, NAME-samples.txt and NAME-text.txt, and
the model itself in NAME.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.batches import TokenStore
from arae_core.checks import above, at_least
from pipelines.experiment.command_line import Arguments, Option, parse, run
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    from arae_core.state import TrainingState
    from pipelines.experiment.corpora import Corpus

OPTIONS = (
    Option("on", tuple[str, ...], ("perplexity", "latent", "robustness"), "What evaluate.py can do, with commas."),
    Option("corpus", Path, None, "Folder of prepared data. Default: prepared now, in --storage."),
    Option("only_prepare", bool, False, "Prepare the data, say where they are, and stop."),
    Option("out", Path, Path("experiments"), "Folder for what is found."),
    Option("called", str, "", "First part of the names of files there. Default: the preset's name."),
    Option("seconds", float, 1e9, "Training ends after these, or when its iterations are done."),
    Option("count", int, 100_000, "Samples that perplexities are of."),
    Option("keep_samples", int, 20_000, "Greedy samples to write."),
    Option("references", Path, None, "File of sentences with people's rewritings, for transfer."),
    Option("outputs", Path, None, "File of other systems' outputs, for transfer."),
    Option(
        "contrasts", tuple[float, ...], (), "Of transfer: tried on validation, the best score's is taken for the test."
    ),
    Option("threads", int, 2, "Threads that torch may use."),
)
TRIED_ON = 2000
"""Validation sentences that contrasts are tried on."""


def trained(
    experiment: Experiment, corpus: "Corpus", seconds: float, device: str
) -> tuple["TrainingState", list[dict[str, Any]]]:
    """The state at its best evaluation, and all evaluations."""
    from arae_core.state import TrainingState
    from arae_core.training import total_iterations, train
    from pipelines.engine.scoring import Scorer
    from pipelines.engine.worker import core_settings

    store, scorer = corpus.store("train"), Scorer(experiment, corpus)
    state = TrainingState.new(core_settings(experiment), corpus.shape, device)
    end, (metric, mode) = total_iterations(experiment, len(store)), experiment.selection
    sign = 1 if mode == "min" else -1
    best, weights, found = float("inf"), None, []
    started = time.perf_counter()
    for report in train(state, store, until=end, every=experiment.evaluate_every):
        taken = time.perf_counter() - started
        figures = {"step": report.step, "seconds": taken, **report.scalars, **scorer.score(state)[0]}
        found.append(figures)
        print(f"{report.step}/{end}, {taken:.0f} s: {metric} {figures[metric]:.4g}", flush=True)
        if sign * figures[metric] < best:
            best = sign * figures[metric]
            weights = {name: value.detach().clone() for name, value in state.modules.state_dict().items()}
        if taken > seconds:
            break
    assert weights is not None
    state.modules.load_state_dict(weights)
    return state, found


def experiments(arguments: Arguments, corpus: "Corpus", device: str) -> None:
    """Train, and everything that was asked for; what fails is told, and the rest goes on."""
    from arae_core.checkpoint import save_checkpoint
    from arae_core.sampling import Model
    from arae_core.tree import flatten
    from pipelines.evaluation.subjects import Subject
    from pipelines.evaluation.tasks import TASKS, Asked

    experiment, options = arguments.experiment, arguments.options
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.called or experiment.name
    state, evaluations = trained(experiment, corpus, options.seconds, device)
    model = Model(state, corpus.vocabulary)
    results: dict[str, Any] = {"settings": flatten(experiment), "device": device, "evaluations": evaluations}

    def keep() -> None:
        (options.out / f"{name}.json").write_text(json.dumps(results, indent=1, default=str) + "\n", encoding="utf-8")

    keep()
    save_checkpoint(options.out / name, state, corpus.vocabulary)
    sentences = model.generate(options.keep_samples, seed=1)
    (options.out / f"{name}-samples.txt").write_text("".join(f"{line}\n" for line in sentences), encoding="utf-8")
    subject, text = Subject(name, model, Path(), experiment, corpus, ""), []
    contrast = None
    if options.contrasts:
        results["contrasts"] = _contrasted(model, corpus, options.contrasts)
        contrast = max(results["contrasts"], key=lambda row: row["transfer_score"])["contrast"]
        keep()
    asked = Asked(
        split="test",
        samples=options.count,
        storage=corpus.folder.resolve().parents[1],
        references=options.references,
        outputs=options.outputs,
        contrast=contrast,
    )
    for task in options.on:
        try:
            outcome = TASKS[task]([subject], asked)
        except (ValueError, RuntimeError, ImportError) as error:
            results[task], results["failed"] = f"failed: {error}", True
        else:
            results[task] = outcome.rows
            text += [f"== {task}", *outcome.text]
            for row in outcome.rows:
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        keep()
    if options.references is not None:
        text += ["== transfer of the sentences with references", *_said_again(model, options.references, contrast)]
    (options.out / f"{name}-text.txt").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")


def _contrasted(model: Any, corpus: "Corpus", contrasts: Sequence[float]) -> list[dict[str, Any]]:
    """How validation sentences are said again with each contrast."""
    from pipelines.evaluation.transfer import AttributeClassifier, score_transfer

    train, held, vocabulary = corpus.store("train"), corpus.store("validation"), corpus.vocabulary
    assert isinstance(train, TokenStore) and isinstance(held, TokenStore) and vocabulary is not None
    assert train.labels is not None and held.labels is not None
    classes = model.classes
    real = vocabulary.decode(train.rows(range(len(train))))
    classifier = AttributeClassifier(real, [classes[y] for y in train.labels])
    rows = np.linspace(0, len(held) - 1, min(len(held), TRIED_ON)).astype(np.int64)
    sources, found = vocabulary.decode(held.rows(rows)), []
    wanted = [classes[(y + 1) % len(classes)] for y in held.labels[rows]]
    for contrast in contrasts:
        written = model.transfer(sources, wanted, contrast=contrast)
        found.append({"contrast": contrast, **score_transfer(classifier, sources, written, wanted)})
        print({name: round(value, 2) for name, value in found[-1].items()}, flush=True)
    return found


def _said_again(model: Any, references: Path, contrast: float | None) -> list[str]:
    """Every sentence that has references, tab, as it was said again."""
    import pandas

    table = pandas.read_parquet(references)
    classes = model.classes
    wanted = [classes[1 - int(label)] for label in table["label"]]
    written = model.transfer(table["source"].tolist(), wanted, contrast=contrast)
    return [f"{source}\t{output}" for source, output in zip(table["source"], written, strict=True)]


def body(words: Sequence[str] | None) -> None:
    """Read the command line, prepare, train, evaluate."""
    import torch

    arguments = parse(words, "The paper's experiments by the core alone.", OPTIONS, config="snli")
    experiment, options = arguments.experiment, arguments.options
    above("seconds", options.seconds, 0.0)
    at_least("count", options.count, 1)
    at_least("threads", options.threads, 1)
    from pipelines.evaluation.tasks import TASKS
    from pipelines.experiment.corpora import Corpus, prepare

    for task in options.on:
        if task not in TASKS:
            raise ValueError(f"--on must be some of {', '.join(TASKS)}, got {task!r}")
    if options.corpus is not None and not (options.corpus / "corpus.json").is_file():
        raise ValueError(
            f"--corpus must be a folder with a corpus.json, as --only-prepare makes it; got {options.corpus}"
        )
    corpus = Corpus.load(options.corpus) if options.corpus is not None else prepare(experiment, options.storage)
    if options.only_prepare:
        print("\n".join([*corpus.summary(), str(corpus.folder)]))
        return
    torch.set_num_threads(options.threads)
    wanted = experiment.device
    device = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    experiments(arguments, corpus, device)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
