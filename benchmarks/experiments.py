"""The paper's experiments by the core alone, for a machine with a GPU and without Ray or MLflow.

    python benchmarks/experiments.py --config snli --data.source DATA --only-prepare          # needs `datasets`
    python benchmarks/experiments.py --config snli --corpus runs/data/FINGERPRINT --on perplexity,latent,robustness
    python benchmarks/experiments.py --config snli --trained experiments/snli --split test --temperature 0.5 --called t5

Trains as `train.py` does, or takes a model that it has kept, keeps the evaluation that is best on validation, and does
with it what `evaluate.py` does, perplexity last, for it takes longest. In --out is what is found, as soon as it is:
NAME.json, NAME-samples.txt, NAME-text.txt, with --references NAME-transfer.txt, a picture of each evaluation,
NAME-EVALUATION.png, and the model itself in NAME.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if __package__ in (None, ""):  # run as a script: the repository, not benchmarks/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arae_core.settings.checks import above, at_least, require
from pipelines.cli.command_line import Arguments, Option, emit_json, parse, run
from pipelines.experiment.settings import Experiment

Results = dict[str, Any]

if TYPE_CHECKING:
    from arae_core.model import Model
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.evaluation.evaluated_models import EvaluatedModel
    from pipelines.evaluation.tasks import TaskOptions

OPTIONS = (
    Option("on", tuple[str, ...], ("perplexity", "latent", "robustness"), "What evaluate.py can do, with commas."),
    Option("corpus", Path, None, "Folder of prepared data. Default: prepared now, in --storage."),
    Option("only_prepare", bool, False, "Prepare the data, say where they are, and stop."),
    Option("trained", Path, None, "A model that was kept in --out: evaluated again, nothing is trained."),
    Option("split", str, "validation", "validation for any choice, test for a report.", ("validation", "test")),
    Option("out", Path, Path("experiments"), "Folder for what is found."),
    Option("called", str, "", "First part of the names of files there. Default: the preset's name."),
    Option(
        "seconds", float, 1e9, "Training ends after these, its evaluations counted, or when its iterations are done."
    ),
    Option("count", int, 100_000, "Samples that perplexities are of."),
    Option("reconstructed", bool, False, "Perplexity of reconstructions of as many training sentences, too."),
    Option("keep_samples", int, 20_000, "Samples to write, drawn as the settings say."),
    Option("references", Path, None, "File of sentences with people's rewritings, for transfer."),
    Option("outputs", Path, None, "File of other systems' outputs, for transfer."),
    Option("contrasts", tuple[float, ...], (), "Of transfer: tried on validation, the best is taken."),
    Option("threads", int, 2, "Threads that torch may use."),
)
TRIED_ON = 2000
"""Validation sentences that contrasts are tried on."""


def trained(
    experiment: Experiment, corpus: "Corpus", seconds: float, device: str, results: Results, keep: Callable[[], None]
) -> "TrainingState":
    """The state at its best evaluation. keep: called whenever `results` has one evaluation more.

    In `results` are "evaluations", "best" (the step of the best one), "iterations" and "seconds" in all, and "diverged"
    where training did after one. Raises FloatingPointError where it does before.
    """
    from arae_core.evaluation.generation import better
    from arae_core.training.loop import total_iterations, train
    from arae_core.training.state import TrainingState
    from pipelines.training.scoring import Scorer

    store, scorer = corpus.store("train"), Scorer(experiment, corpus)
    state = TrainingState.new(experiment.core, corpus.spec, device)
    end, (metric, _) = total_iterations(experiment, len(store)), experiment.selection
    evaluations: list[dict[str, Any]] = []
    best, weights = float("nan"), dict[str, Any]()
    started = time.perf_counter()
    try:
        for report in train(state, store, until=end, every=(experiment.log_every, experiment.evaluate_every)):
            taken = time.perf_counter() - started
            line = f"{report.step}/{end}, {taken:.0f} s: reconstruction {report.scalars['reconstruction_loss']:.4g}"
            if report.step % experiment.evaluate_every and report.step < end and taken < seconds:
                print(line, flush=True)
                continue
            figures = {"step": report.step, "seconds": taken, **report.scalars, **scorer.score(state)[0]}
            evaluations.append(figures)
            print(f"{line}, {metric} {figures[metric]:.4g}", flush=True)
            if not weights or better(metric, figures[metric], best):
                # in main memory: a device that several share has none to spare
                weights = {name: value.to("cpu", copy=True) for name, value in state.modules.state_dict().items()}
                best, results["best"] = figures[metric], report.step
            results |= {"evaluations": evaluations, "iterations": report.step, "seconds": time.perf_counter() - started}
            keep()
            if taken >= seconds:
                break
    except FloatingPointError as error:
        if not weights:
            raise
        results["diverged"] = str(error)
        print(f"what was best before is evaluated: {error}", flush=True)
    state.modules.load_state_dict(weights)
    return state


def experiments(arguments: Arguments, corpus: "Corpus", device: str) -> Results:
    """Train, and everything that was asked for; what fails is told, listed under "failed", and the rest goes on."""
    from arae_core.model import Model
    from arae_core.settings.tree import flatten
    from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
    from pipelines.evaluation.evaluated_models import EvaluatedModel
    from pipelines.evaluation.tasks import TASKS, TaskOptions
    from pipelines.runtime.run_record import write_record

    experiment, options = arguments.experiment, arguments.options
    name = options.called or experiment.name
    results: Results = {"settings": flatten(experiment), "device": device}
    text: list[str] = []

    def keep() -> None:
        write_record(options.out / f"{name}.json", json.loads(json.dumps(results, default=str)))

    def write(what: str, lines: Sequence[str]) -> None:
        (options.out / f"{name}-{what}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def attempt(what: str, part: Callable[[], object]) -> None:
        try:
            part()
        except Exception as error:  # of any library: what the other parts find must not be lost with this one
            results.setdefault("failed", {})[what] = f"{type(error).__name__}: {error}"
            print(f"{what} failed: {results['failed'][what]}", file=sys.stderr, flush=True)
        keep()

    keep()
    if options.trained is None:
        state = trained(experiment, corpus, options.seconds, device, results, keep)
    else:
        state, _, _ = load_checkpoint(options.trained, device, experiment.core)
    model = Model(state, corpus.vocabulary)
    subject = EvaluatedModel(name, model, Path(), experiment, corpus, "")
    storage, files = corpus.folder.resolve().parents[1], (options.references, options.outputs)
    asked = TaskOptions(options.split, options.count, 0, storage, "", *files, reconstructed=options.reconstructed)
    results["split"] = options.split
    if options.trained is None:
        attempt("checkpoint", lambda: save_checkpoint(options.out / name, state, corpus.vocabulary))
    attempt("samples", lambda: write("samples", [str(line) for line in model.generate(options.keep_samples, seed=1)]))
    if options.contrasts:
        attempt("contrasts", lambda: results.update(contrasts=_contrasted(subject, asked, options.contrasts)))
        if "contrasts" in results:
            best = max(results["contrasts"], key=lambda row: row["transfer_score"])
            asked = replace(asked, contrast=best["contrast"])

    def evaluate(task: str) -> None:
        outcome = TASKS[task]([subject], asked)
        results[task] = outcome.rows
        if outcome.figure is not None:
            outcome.figure.savefig(options.out / f"{name}-{task}.png", dpi=120)
        for row in outcome.rows:
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        text.extend([f"== {task}", *outcome.text])
        write("text", text)

    if options.references is not None:
        attempt("outputs", lambda: write("transfer", _said_again(model, asked)))
    for task in sorted(options.on, key=lambda task: task == "perplexity"):
        attempt(task, partial(evaluate, task))
    return results


def _contrasted(subject: "EvaluatedModel", asked: "TaskOptions", contrasts: Sequence[float]) -> list[dict[str, Any]]:
    """How validation sentences are said again with each contrast."""
    from pipelines.evaluation.tasks import make_classifier
    from pipelines.evaluation.transfer_metrics import score_transfer

    model, held, found = subject.model, subject.store("validation"), list[dict[str, Any]]()
    classifier, classes = make_classifier(subject, asked), model.classes
    assert held.labels is not None and model.vocabulary is not None
    rows = np.linspace(0, len(held) - 1, min(len(held), TRIED_ON)).astype(np.int64)
    sources = model.vocabulary.decode(held.rows(rows))
    wanted = [classes[(y + 1) % len(classes)] for y in held.labels[rows]]
    for contrast in contrasts:
        written = model.transfer(sources, wanted, contrast=contrast)
        found.append({"contrast": contrast, **score_transfer(classifier, sources, written, wanted)})
        print({name: round(value, 2) for name, value in found[-1].items()}, flush=True)
    return found


def _said_again(model: "Model", asked: "TaskOptions") -> list[str]:
    """Every sentence that has references, tab, as it was said again."""
    from pipelines.evaluation.references import read_references

    assert asked.references is not None
    classes = model.classes
    given = read_references(asked.references, None, classes, asked.storage / "data" / ".cache")
    wanted = [classes[(classes.index(label) + 1) % len(classes)] for label in given.labels]
    written = model.transfer(given.sentences, wanted, contrast=asked.contrast)
    return [f"{source}\t{output}" for source, output in zip(given.sentences, written, strict=True)]


def check(arguments: Arguments) -> None:
    """Raise ValueError for what cannot be done, before anything that takes time."""
    from pipelines.cli.model_options import check_contrast
    from pipelines.evaluation.tasks import TASKS

    experiment, options = arguments.experiment, arguments.options
    above("seconds", options.seconds, 0.0)
    for name, least in (("count", 2), ("keep_samples", 0), ("threads", 1)):
        at_least(name, getattr(options, name), least)
    if not options.only_prepare:
        require(experiment.kind == "text", "kind", experiment.kind, "text: these evaluations are of sentences")
    for task in options.on:
        if task not in TASKS:
            raise ValueError(f"--on must be some of {', '.join(TASKS)}, got {task!r}")
    for contrast in options.contrasts:
        check_contrast(contrast)
    if ("transfer" in options.on or options.references or options.contrasts) and not experiment.data.label:
        raise ValueError(f"transfer needs --data.label: {experiment.name} has no attribute")
    if options.outputs is not None and options.references is None:
        raise ValueError("--outputs needs --references: it is scored on the same sentences")
    for flag in ("references", "outputs"):
        if (file := getattr(options, flag)) is not None and not file.is_file():
            raise ValueError(f"--{flag} {file}: there is no such file")
    if options.trained is not None and not (options.trained / "manifest.json").is_file():
        raise ValueError(f"--trained must be a folder with a model, as --out has them; got {options.trained}")
    if options.corpus is not None and not (options.corpus / "corpus.json").is_file():
        raise ValueError(f"--corpus must be a folder with a corpus.json, see --only-prepare; got {options.corpus}")


def body(words: Sequence[str] | None) -> None:
    """Read the command line, prepare, train, evaluate; exit status 1 where some of it failed."""
    import torch

    from arae_core.data.data_spec import TextSpec
    from pipelines.corpora.corpus import Corpus, prepare

    arguments = parse(words, "The paper's experiments by the core alone.", OPTIONS, config="snli")
    experiment, options = arguments.experiment, arguments.options
    check(arguments)
    corpus = Corpus.load(options.corpus) if options.corpus is not None else prepare(experiment, options.storage)
    if options.only_prepare:
        print("\n".join([*corpus.summary(), str(corpus.folder)]))
        return
    if not isinstance(corpus.spec, TextSpec) or bool(corpus.spec.classes) != bool(experiment.data.label):
        raise ValueError(f"--corpus {options.corpus} must be one that was prepared with the --data.label given")
    torch.set_num_threads(options.threads)
    wanted = experiment.device
    device = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    results = experiments(arguments, corpus, device)
    if options.json:
        emit_json(results)
    if "failed" in results:
        raise SystemExit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
