"""The paper's experiments on trained models of sentences: a table and a picture each.

    python pipelines/evaluate.py --model models:/arae-grammar@champion --on robustness,latent
    python pipelines/evaluate.py --model ARAE,AE --on perplexity --samples 100000 --split test

perplexity: both ways, by an LSTM language model. latent: norms, variances and neighbours of codes. robustness: what is
left after words have been swapped. transfer: accuracy and BLEU. Several models stand in one table, comma between.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.cli.model_commands import CONTRAST, SEED, check_contrast, check_draws, check_memory

if TYPE_CHECKING:
    from pipelines.evaluation.evaluated_models import Subject
    from pipelines.evaluation.tasks import Outcome

NAMES = ("latent", "robustness", "transfer", "perplexity")  # the slowest last
SPLITS = ("validation", "test")
OPTIONS = (
    Option("model", str, None, "Models or checkpoint folders, as for generate.py, with commas between.", required=True),
    Option("on", str, "", f"Experiments with commas between: {', '.join(NAMES)} (default: all that the models can)."),
    Option("split", str, "validation", "What is compared with: validation for any choice, test for a report.", SPLITS),
    Option("samples", int, 100_000, "Sentences that each model writes for perplexity; fewer are sooner done."),
    Option("reconstructed", bool, False, "Perplexity of reconstructions of as many training sentences, too."),
    Option(
        "references", Path, None, "File of sentences with people's rewritings, for transfer (source, label, reference)."
    ),
    Option("outputs", Path, None, "File with what other systems wrote for those (system, source, output)."),
    CONTRAST,
    Option("run_name", str, "", "Folder of tables and pictures, gone on with where it is there (default: the time)."),
    SEED,
)


def evaluate(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "The paper's experiments on trained models of sentences.", OPTIONS)
    names = [name.strip() for name in options.on.split(",") if name.strip()] or list(NAMES)
    for name in names:
        if name not in NAMES:
            raise ValueError(f"--on must be among {', '.join(NAMES)}, got {name!r}")
    if options.samples < 2:
        raise ValueError(f"--samples must be >= 2, got {options.samples}")
    check_contrast(options.contrast)
    if options.outputs is not None and options.references is None:
        raise ValueError("--outputs needs --references: it is scored on the same sentences")
    for flag, file in (("--references", options.references), ("--outputs", options.outputs)):
        if file is not None and not file.is_file():
            raise ValueError(f"{flag} {file}: there is no such file")
    check_draws(options.seed)
    models = list(dict.fromkeys(name.strip() for name in options.model.split(",") if name.strip()))
    if not models:
        raise ValueError(f"--model must be one or more models, with commas between, got {options.model!r}")
    from pipelines.reporting import display, summary
    from pipelines.runtime import cluster, run_record

    if options.run_name:
        run_record.check_name(options.run_name)
    from pipelines.evaluation.evaluated_models import load_subject

    storage = cluster.writable(options.storage)
    subjects = [load_subject(name, options.tracking_uri, storage) for name in models]
    from pipelines.evaluation.tasks import TASKS, Asked, sentences_to_rewrite, supported

    reasons = {name: supported(name, subjects) for name in names}
    for name, why in reasons.items():
        if why and options.on:
            raise ValueError(f"--on {name}: {why}")
    for subject in subjects if "perplexity" in names else ():
        check_memory("--samples", options.samples, subject.model)
    console = display.make_console()
    files = (options.references, options.outputs)
    stored = (storage, options.tracking_uri)
    how = (options.contrast, options.reconstructed)
    asked = Asked(options.split, options.samples, options.seed, *stored, *files, *how, console.print)
    if "transfer" in names and not reasons["transfer"]:
        sentences_to_rewrite(subjects, asked)  # what is wrong with the files is said now, not after what takes minutes
    folder = _folder(storage / "evaluations", options.run_name)
    about = _about(options, subjects)
    if record := run_record.read_record(folder / "evaluation.json"):
        run_record.check_unchanged(record, about, f"evaluation {folder.name}")
    run_record.write_record(folder / "evaluation.json", about)
    tables = {}
    try:
        for name in names:
            if reasons[name]:
                console.print(f"{name}: left out, {reasons[name]}")
                continue
            where = "references" if name == "transfer" and options.references else options.split
            console.print(f"[bold]{name}[/], on the {where if where == 'references' else f'{where} split'}")
            if done := run_record.read_record(folder / f"{name}.json"):
                console.print(f"done before, as {folder / f'{name}.json'} has it", soft_wrap=True)
            else:
                outcome = TASKS[name](subjects, asked)
                done = _kept(outcome, f"{name}-{where}", folder / name, subjects, options.tracking_uri)
            tables[name] = done["rows"]
            console.print(display.rows_table(done["rows"], name))
            console.print("\n".join(done["text"]), markup=False, soft_wrap=True)
            if (picture := folder / f"{name}.png").exists():
                console.print(f"picture: {picture}", soft_wrap=True)
    except KeyboardInterrupt:
        words = list(sys.argv[1:] if arguments is None else arguments)
        raise KeyboardInterrupt(summary.again("evaluate.py", words, "--run-name", folder.name)) from None
    if options.json:
        emit_json({"tables": tables, "folder": str(folder), "split": options.split})


def _folder(evaluations: Path, name: str) -> Path:
    """The one that was asked for, or a new one."""
    if name:
        return evaluations / name
    now = time.strftime("%Y%m%d-%H%M%S")
    return next(f for i in count(1) if not (f := evaluations / (now if i == 1 else f"{now}-{i}")).exists())


def _about(options: argparse.Namespace, subjects: "Sequence[Subject]") -> dict[str, Any]:
    """What the tables depend on: the same folder is not gone on with for anything else."""
    from arae_core.training.checksums import sha256_of

    names = ("split", "samples", "reconstructed", "contrast", "seed")
    files = {name: getattr(options, name) for name in ("references", "outputs")}
    return {
        "models": {subject.name: sha256_of(subject.checkpoint / "manifest.json")[:12] for subject in subjects},
        **{name: getattr(options, name) for name in names},
        **{name: file and sha256_of(file)[:12] for name, file in files.items()},
    }


def _kept(outcome: "Outcome", artifact: str, file: Path, subjects: "Sequence[Subject]", uri: str) -> dict[str, Any]:
    """Keep an outcome in every model's MLflow run, as file.png and, at last, as file.json; what is in that one."""
    from pipelines.runtime.run_record import write_record
    from pipelines.tracking.runs import Tracker

    for subject in subjects:
        tracker = Tracker(uri, subject.run_id)
        tracker.artifact(f"evaluation/{artifact}.json", outcome.rows)
        if outcome.figure is not None:
            tracker.figure(f"evaluation/{artifact}.png", outcome.figure)
    if outcome.figure is not None:
        outcome.figure.savefig(file.with_suffix(".png"), dpi=120)
    content = {"rows": outcome.rows, "text": outcome.text}
    write_record(file.with_suffix(".json"), content)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    return run(evaluate, arguments)


if __name__ == "__main__":
    sys.exit(main())
