"""Body of evaluate.py: run the experiments on the models, and save each table as soon as it is complete.

STORAGE/evaluations/NAME/evaluation.json    models and options that the tables depend on
                         TASK.json          rows and text of a finished experiment
                         TASK.png           its figure
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.command_line import emit_json
from pipelines.cli.model_options import check_contrast, check_memory, check_sampling

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.evaluation.evaluated_models import EvaluatedModel
    from pipelines.evaluation.tasks import TaskOptions, TaskResult

TASKS = ("latent", "robustness", "transfer", "perplexity")
"""Names of the experiments, the slowest last."""
SPLITS = ("validation", "test")


def evaluate(options: argparse.Namespace, words: Sequence[str]) -> None:
    """Run the experiments and print their tables. `words` is the command line, for the command that resumes it.

    Experiments that the folder --run-name already has are not repeated. Raise ValueError for options, models and files
    that do not fit together, before the first experiment starts.
    """
    tasks, names = _check_options(options)
    from pipelines.evaluation.evaluated_models import load_evaluated_model
    from pipelines.evaluation.tasks import TaskOptions
    from pipelines.reporting import display
    from pipelines.runtime import cluster
    from pipelines.runtime.session import resume_command

    storage = cluster.writable(options.storage)
    models = [load_evaluated_model(name, options.tracking_uri, storage) for name in names]
    console = display.make_console()
    task_options = TaskOptions(
        split=options.split,
        samples=options.samples,
        seed=options.seed,
        storage=storage,
        tracking_uri=options.tracking_uri,
        references=options.references,
        outputs=options.outputs,
        contrast=options.contrast,
        reconstructed=options.reconstructed,
        log=console.print,
    )
    skipped = _check_tasks(tasks, models, task_options, explicit=bool(options.on))
    folder = _open_folder(storage / "evaluations", options, models)
    tables = {}
    try:
        for task in tasks:
            if task in skipped:
                console.print(f"{task}: skipped, {skipped[task]}")
            else:
                tables[task] = _run_task(task, models, task_options, folder, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(resume_command("evaluate", words, folder.name)) from None
    if options.json:
        emit_json({"tables": tables, "folder": str(folder), "split": options.split})


def _check_options(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Check what needs no model; return the names of the experiments and of the models."""
    from pipelines.runtime.run_record import check_name

    tasks = [name.strip() for name in options.on.split(",") if name.strip()] or list(TASKS)
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"--on must be among {', '.join(TASKS)}, got {task!r}")
    if options.samples < 2:
        raise ValueError(f"--samples must be >= 2, got {options.samples}")
    check_contrast(options.contrast)
    if options.outputs is not None and options.references is None:
        raise ValueError("--outputs needs --references, the sentences that the outputs rewrite")
    for flag, file in (("--references", options.references), ("--outputs", options.outputs)):
        if file is not None and not file.is_file():
            raise ValueError(f"{flag} {file}: no such file")
    check_sampling(options.seed)
    models = list(dict.fromkeys(name.strip() for name in options.model.split(",") if name.strip()))
    if not models:
        raise ValueError(f"--model must be one or more models, separated by commas, got {options.model!r}")
    if options.run_name:
        check_name(options.run_name)
    return tasks, models


def _check_tasks(
    tasks: Sequence[str], models: "Sequence[EvaluatedModel]", options: "TaskOptions", *, explicit: bool
) -> dict[str, str]:
    """Return the experiments that these models cannot take part in, with the reason.

    explicit: raise ValueError for them instead, because the user named them.
    """
    from pipelines.evaluation.tasks import load_sources, why_unsupported

    skipped = {task: why for task in tasks if (why := why_unsupported(task, models))}
    for task, why in skipped.items():
        if explicit:
            raise ValueError(f"--on {task}: {why}")
    if "perplexity" in tasks:
        for model in models:
            check_memory("--samples", options.samples, model.model)
    if "transfer" in tasks and "transfer" not in skipped:
        load_sources(models, options)  # report errors in the files now, not after experiments that take minutes
    return skipped


def _open_folder(evaluations: Path, options: argparse.Namespace, models: "Sequence[EvaluatedModel]") -> Path:
    """Return the folder of this evaluation, with evaluation.json in it.

    Raise ValueError if it exists with other models, options or files.
    """
    from arae_core.training.checksums import sha256_of
    from pipelines.runtime.run_record import check_unchanged, read_record, write_record

    folder = evaluations / options.run_name if options.run_name else new_folder(evaluations)
    settings = {name: getattr(options, name) for name in ("split", "samples", "reconstructed", "contrast", "seed")}
    files = {name: getattr(options, name) for name in ("references", "outputs")}
    record = {
        "models": {model.name: sha256_of(model.checkpoint / "manifest.json")[:12] for model in models},
        **settings,
        **{name: file and sha256_of(file)[:12] for name, file in files.items()},
    }
    if stored := read_record(folder / "evaluation.json"):
        check_unchanged(stored, record, f"evaluation {folder.name}")
    write_record(folder / "evaluation.json", record)
    return folder


def new_folder(evaluations: Path) -> Path:
    """Return a folder that does not exist yet, named after the current time."""
    now = time.strftime("%Y%m%d-%H%M%S")
    candidates = (evaluations / (now if i == 1 else f"{now}-{i}") for i in count(1))
    return next(folder for folder in candidates if not folder.exists())


def _run_task(
    task: str, models: "Sequence[EvaluatedModel]", options: "TaskOptions", folder: Path, console: "Console"
) -> list[dict[str, Any]]:
    """Run one experiment, or read its saved result; print and return the rows of its table."""
    from pipelines.evaluation import tasks
    from pipelines.reporting.display import rows_table
    from pipelines.runtime.run_record import read_record

    references = task == "transfer" and options.references
    console.print(f"[bold]{task}[/] on the {'references' if references else f'{options.split} split'}")
    saved: Mapping[str, Any] | None = read_record(folder / f"{task}.json")
    if saved:
        console.print(f"already done, read from {folder / f'{task}.json'}", soft_wrap=True)
    else:
        result = tasks.TASKS[task](models, options)
        artifact = f"{task}-{'references' if references else options.split}"
        saved = _save_result(result, artifact, folder / task, models, options.tracking_uri)
    console.print(rows_table(saved["rows"], task))
    console.print("\n".join(saved["text"]), markup=False, soft_wrap=True)
    if (figure := folder / f"{task}.png").exists():
        console.print(f"figure: {figure}", soft_wrap=True)
    return list(saved["rows"])


def _save_result(
    result: "TaskResult", artifact: str, file: Path, models: "Sequence[EvaluatedModel]", uri: str
) -> dict[str, Any]:
    """Save a result in the MLflow run of every model, as file.png and, last of all, as file.json; return the latter."""
    from pipelines.runtime.run_record import write_record
    from pipelines.tracking.runs import Tracker

    for model in models:
        tracker = Tracker(uri, model.run_id)
        tracker.artifact(f"evaluation/{artifact}.json", result.rows)
        if result.figure is not None:
            tracker.figure(f"evaluation/{artifact}.png", result.figure)
    if result.figure is not None:
        result.figure.savefig(file.with_suffix(".png"), dpi=120)
    content = {"rows": result.rows, "text": result.text}
    write_record(file.with_suffix(".json"), content)
    return content
