"""The paper's experiments by the core alone, for a machine with a GPU and without Ray or MLflow.

    python benchmarks/experiments.py --config snli --data.source DATA --only-prepare          # needs `datasets`
    python benchmarks/experiments.py --config snli --corpus runs/data/FINGERPRINT --on perplexity,latent,robustness
    python benchmarks/experiments.py --config snli --trained experiments/snli --split test --temperature 0.5 --called t5

Trains like `train.py`, or loads a model that an earlier call saved, and keeps the weights of the evaluation that is
best on validation. Then runs the experiments of `evaluate.py`, perplexity last because it takes longest. Every result
is saved in --out as soon as it exists: NAME.json, NAME-samples.txt, NAME-text.txt, with --references NAME-transfer.txt,
a picture of each experiment, NAME-EXPERIMENT.png, and the model itself in NAME.
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
from benchmarks import harness
from pipelines.cli.command_line import Arguments, Option, emit_json
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    from arae_core.model import Model
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.evaluation.evaluated_models import EvaluatedModel
    from pipelines.evaluation.tasks import TaskOptions

OPTIONS = (
    Option("on", tuple[str, ...], ("perplexity", "latent", "robustness"), "Experiments of evaluate.py to run."),
    Option("corpus", Path, None, "Folder of prepared data. Default: prepare the data now, in --storage."),
    Option("only_prepare", bool, False, "Prepare the data, print the folder, and stop."),
    Option("trained", Path, None, "Folder of a model that an earlier call saved in --out: evaluate it, do not train."),
    Option(
        "split",
        str,
        "validation",
        "Split to evaluate on: validation to choose, test to report.",
        ("validation", "test"),
    ),
    Option("out", Path, Path("experiments"), "Folder for the results."),
    Option("called", str, "", "Prefix of the file names there. Default: the name of the preset."),
    Option("seconds", float, 1e9, "Stop training after this time, evaluations included."),
    Option("count", int, 100_000, "Samples for the perplexities."),
    Option("reconstructed", bool, False, "Also compute perplexities of reconstructions of as many training sentences."),
    Option("keep_samples", int, 20_000, "Samples to save."),
    Option("references", Path, None, "File of sentences with human rewritings, to score transfer."),
    Option("outputs", Path, None, "File of other systems' outputs, to score transfer."),
    Option("contrasts", tuple[float, ...], (), "Transfer contrasts to try on validation; the best is used."),
    harness.THREADS,
)
CONTRAST_SENTENCES = 2000
"""Validation sentences on which contrasts are compared."""


class Results:
    """Results of one call: the values of NAME.json, saved on every change, and the files beside it."""

    def __init__(self, folder: Path, name: str, values: dict[str, Any]) -> None:
        self.folder, self.name, self.values = folder, name, values
        self.save()

    def save(self, **values: Any) -> None:
        """Add values and write NAME.json."""
        from pipelines.runtime.run_record import write_record

        self.values |= values
        write_record(self.path(".json"), json.loads(json.dumps(self.values, default=str)))

    def path(self, suffix: str) -> Path:
        """Return the path of NAME + suffix."""
        return self.folder / f"{self.name}{suffix}"

    def write(self, kind: str, lines: Sequence[str]) -> None:
        """Write NAME-KIND.txt."""
        self.path(f"-{kind}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def attempt(self, step: str, function: Callable[[], object]) -> None:
        """Call the function; if it fails, report the error under "failed", so that the other steps still run."""
        try:
            function()
        except Exception as error:  # of any library
            message = f"{type(error).__name__}: {error}"
            self.values.setdefault("failed", {})[step] = message
            print(f"{step} failed: {message}", file=sys.stderr, flush=True)
        self.save()


def trained(experiment: Experiment, corpus: "Corpus", seconds: float, device: str, results: Results) -> "TrainingState":
    """Train for at most `seconds`; return the state with the weights of the best evaluation.

    Adds to the results "evaluations", "best" (the step of the best), "iterations", "seconds", and "diverged" if
    training diverges after an evaluation. Raise FloatingPointError if it diverges before.
    """
    from arae_core.evaluation.generation import better
    from arae_core.training.loop import Report, total_iterations, train
    from arae_core.training.state import TrainingState
    from pipelines.training.evaluation_loop import BestWeights, train_and_evaluate
    from pipelines.training.scoring import Scorer

    store, scorer = corpus.store("train"), Scorer(experiment, corpus)
    state = TrainingState.new(experiment.core, corpus.spec, device)
    end, every, (metric, _) = total_iterations(experiment, len(store)), experiment.evaluate_every, experiment.selection
    best, started = BestWeights(partial(better, metric)), time.perf_counter()
    evaluations: list[dict[str, Any]] = []

    def log(report: Report) -> None:
        loss, passed = report.scalars["reconstruction_loss"], time.perf_counter() - started
        print(f"{report.step}/{end}, {passed:.0f} s: reconstruction {loss:.4g}", flush=True)

    def evaluate(report: Report) -> None:
        passed = time.perf_counter() - started
        figures = {"step": report.step, "seconds": passed, **report.scalars, **scorer.score(state)[0]}
        evaluations.append(figures)
        print(f"{report.step}/{end}: {metric} {figures[metric]:.4g}", flush=True)
        best.update(report.step, figures[metric], state.modules.state_dict)
        seconds_in_all = time.perf_counter() - started
        results.save(evaluations=evaluations, iterations=report.step, seconds=seconds_in_all, best=best.step)

    reports = train(state, store, until=end, every=(experiment.log_every, every))
    try:
        train_and_evaluate(reports, every=every, end=end, log=log, evaluate=evaluate, seconds=seconds)
    except FloatingPointError as error:
        if not best.weights:
            raise
        results.values["diverged"] = str(error)
        print(f"training diverged, continuing with the best evaluation so far: {error}", flush=True)
    state.modules.load_state_dict(best.weights)
    return state


def experiments(arguments: Arguments, corpus: "Corpus", device: str) -> dict[str, Any]:
    """Train or load the model, run the experiments, and return all results."""
    from arae_core.model import Model
    from arae_core.settings.tree import flatten
    from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
    from pipelines.evaluation.evaluated_models import EvaluatedModel
    from pipelines.evaluation.tasks import TaskOptions

    experiment, options = arguments.experiment, arguments.options
    name = options.called or experiment.name
    results = Results(options.out, name, {"settings": flatten(experiment), "device": device})
    if options.trained is None:
        state = trained(experiment, corpus, options.seconds, device, results)
        results.attempt("checkpoint", lambda: save_checkpoint(results.path(""), state, corpus.vocabulary))
    else:
        state, _, _ = load_checkpoint(options.trained, device, experiment.core)
    model = Model(state, corpus.vocabulary)
    subject = EvaluatedModel(name, model, Path(), experiment, corpus, "")
    storage, files = corpus.folder.resolve().parents[1], (options.references, options.outputs)
    asked = TaskOptions(options.split, options.count, 0, storage, "", *files, reconstructed=options.reconstructed)
    results.save(split=options.split)
    samples = partial(model.generate, options.keep_samples, seed=1)
    results.attempt("samples", lambda: results.write("samples", [str(sample) for sample in samples()]))
    if options.contrasts:
        results.attempt(
            "contrasts", lambda: results.save(contrasts=compare_contrasts(subject, asked, options.contrasts))
        )
        rows = results.values.get("contrasts")
        if rows:
            asked = replace(asked, contrast=max(rows, key=lambda row: row["transfer_score"])["contrast"])
    if options.references is not None:
        results.attempt("outputs", lambda: results.write("transfer", transferred(model, asked)))
    evaluate(options.on, subject, asked, results)
    return results.values


def evaluate(names: Sequence[str], subject: "EvaluatedModel", asked: "TaskOptions", results: Results) -> None:
    """Run experiments of `evaluate.py`, perplexity last; save their rows, texts and pictures."""
    from pipelines.evaluation.tasks import TASKS

    text: list[str] = []

    def evaluate_one(name: str) -> None:
        outcome = TASKS[name]([subject], asked)
        results.values[name] = outcome.rows
        if outcome.figure is not None:
            harness.save_picture(outcome.figure, results.path(f"-{name}.png"))
        for row in outcome.rows:
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        text.extend([f"== {name}", *outcome.text])
        results.write("text", text)

    for name in sorted(names, key=lambda name: name == "perplexity"):
        results.attempt(name, partial(evaluate_one, name))


def compare_contrasts(
    subject: "EvaluatedModel", asked: "TaskOptions", contrasts: Sequence[float]
) -> list[dict[str, Any]]:
    """Transfer validation sentences with each contrast; return the scores."""
    from pipelines.evaluation.tasks import make_classifier
    from pipelines.evaluation.transfer_metrics import score_transfer

    model, validation, found = subject.model, subject.store("validation"), list[dict[str, Any]]()
    classifier, classes = make_classifier(subject, asked), model.classes
    assert validation.labels is not None and model.vocabulary is not None
    count = min(len(validation), CONTRAST_SENTENCES)
    rows = np.linspace(0, len(validation) - 1, count).astype(np.int64)
    sources = model.vocabulary.decode(validation.rows(rows))
    wanted = [classes[(y + 1) % len(classes)] for y in validation.labels[rows]]
    for contrast in contrasts:
        outputs = model.transfer(sources, wanted, contrast=contrast)
        found.append({"contrast": contrast, **score_transfer(classifier, sources, outputs, wanted)})
        print({name: round(value, 2) for name, value in found[-1].items()}, flush=True)
    return found


def transferred(model: "Model", asked: "TaskOptions") -> list[str]:
    """Transfer every sentence that has references; return lines of source, tab, output."""
    from pipelines.evaluation.references import read_references

    assert asked.references is not None
    classes = model.classes
    given = read_references(asked.references, None, classes)
    wanted = [classes[(classes.index(label) + 1) % len(classes)] for label in given.labels]
    outputs = model.transfer(given.sentences, wanted, contrast=asked.contrast)
    return [f"{source}\t{output}" for source, output in zip(given.sentences, outputs, strict=True)]


def check(arguments: Arguments) -> None:
    """Raise ValueError for options that cannot work, before anything that takes time."""
    from pipelines.cli.model_options import check_contrast
    from pipelines.evaluation.tasks import TASKS

    experiment, options = arguments.experiment, arguments.options
    above("seconds", options.seconds, 0.0)
    at_least("count", options.count, 2)
    at_least("keep_samples", options.keep_samples, 0)
    if not options.only_prepare:
        require(experiment.kind == "text", "kind", experiment.kind, "text: these experiments are for sentences")
    for name in options.on:
        if name not in TASKS:
            raise ValueError(f"--on must be some of {', '.join(TASKS)}, got {name!r}")
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
        raise ValueError(f"--trained must be the folder of a model that was saved in --out, got {options.trained}")
    if options.corpus is not None and not (options.corpus / "corpus.json").is_file():
        raise ValueError(f"--corpus must be a folder with a corpus.json, see --only-prepare; got {options.corpus}")


@harness.command
def main(words: Sequence[str] | None) -> None:
    """Read the command line, prepare, train, evaluate. Exit with status 1 if a step failed."""
    from arae_core.data.data_spec import TextSpec
    from pipelines.corpora.corpus import Corpus, prepare

    arguments = harness.parse(words, "Run the paper's experiments by the core alone.", OPTIONS, "snli")
    experiment, options = arguments.experiment, arguments.options
    check(arguments)
    corpus = Corpus.load(options.corpus) if options.corpus is not None else prepare(experiment, options.storage)
    if options.only_prepare:
        print("\n".join([*corpus.summary(), str(corpus.folder)]))
        return
    if not isinstance(corpus.spec, TextSpec) or bool(corpus.spec.classes) != bool(experiment.data.label):
        raise ValueError(f"--corpus {options.corpus} must have been prepared with the same --data.label")
    device, _ = harness.set_up(arguments)
    results = experiments(arguments, corpus, device.type)
    if options.json:
        emit_json(results)
    if "failed" in results:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
