"""The paper's experiments on trained models of sentences: a table and a picture each.

    python pipelines/evaluate.py --model models:/arae-grammar@champion --on robustness,latent
    python pipelines/evaluate.py --model ARAE,AE --on perplexity --samples 100000 --split test

perplexity: both ways, by an LSTM language model. latent: norms, variances and neighbours of codes. robustness: what is
left after words have been swapped. transfer: accuracy and BLEU. Several models stand in one table, comma between.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.experiment.command_line import Option, emit_json, parse_options, run
from pipelines.experiment.model_commands import CONTRAST, SEED, check_contrast, check_draws, check_memory

NAMES = ("latent", "robustness", "transfer", "perplexity")  # the slowest last
SPLITS = ("validation", "test")
OPTIONS = (
    Option("model", str, None, "Models or checkpoint folders, as for generate.py, with commas between.", required=True),
    Option("on", str, "", f"Experiments with commas between: {', '.join(NAMES)} (default: all that the models can)."),
    Option("split", str, "validation", "What is compared with: validation for any choice, test for a report.", SPLITS),
    Option("samples", int, 100_000, "Sentences that each model writes for perplexity."),
    Option("reconstructed", bool, False, "Perplexity of reconstructions of as many training sentences, too."),
    Option(
        "references", Path, None, "File of sentences with people's rewritings, for transfer (source, label, reference)."
    ),
    Option("outputs", Path, None, "File with what other systems wrote for those (system, source, output)."),
    CONTRAST,
    Option("run_name", str, "", "Name of the folder that tables and pictures go to (default: the time)."),
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
    folder_name = options.run_name or time.strftime("%Y%m%d-%H%M%S")
    check_draws(options.seed)
    models = list(dict.fromkeys(name.strip() for name in options.model.split(",") if name.strip()))
    if not models:
        raise ValueError(f"--model must be one or more models, with commas between, got {options.model!r}")
    from pipelines.engine import cluster, display, records

    records.check_name(folder_name)
    from pipelines.evaluation.subjects import load_subject
    from pipelines.tracking.runs import Tracker

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
    folder = storage / "evaluations" / folder_name
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in names:
        if reasons[name]:
            console.print(f"{name}: left out, {reasons[name]}")
            continue
        where = "references" if name == "transfer" and options.references else options.split
        console.print(f"[bold]{name}[/], on the {where if where == 'references' else f'{where} split'}")
        outcome = TASKS[name](subjects, asked)
        tables[name] = outcome.rows
        console.print(display.rows_table(outcome.rows, name))
        console.print("\n".join(outcome.text), markup=False, soft_wrap=True)
        for subject in subjects:
            tracker = Tracker(options.tracking_uri, subject.run_id)
            tracker.artifact(f"evaluation/{name}-{where}.json", outcome.rows)
            if outcome.figure is not None:
                tracker.figure(f"evaluation/{name}-{where}.png", outcome.figure)
        if outcome.figure is not None:
            outcome.figure.savefig(folder / f"{name}.png", dpi=120)
            console.print(f"picture: {folder / f'{name}.png'}", soft_wrap=True)
    if options.json:
        emit_json({"tables": tables, "folder": str(folder), "split": options.split})


def main(arguments: Sequence[str] | None = None) -> int:
    return run(evaluate, arguments)


if __name__ == "__main__":
    sys.exit(main())
