"""The end of a training or a sweep: register the best model, show its samples, print the next command."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.environment import command, default_tracking_uri
from pipelines.experiment.settings import Experiment
from pipelines.reporting.display import side_by_side, trial_number
from pipelines.runtime.run_record import read_record, write_record
from pipelines.training.worker import Metrics

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.tracking.runs import Tracker

INTERPOLATION_STEPS = 7
"""Sentences or images of the interpolation that is shown."""
CONTENT_SHARE = 0.8
"""Share of the baseline's reconstruction accuracy below which the best trial gets a warning."""


@dataclass(frozen=True)
class Registered:
    """A registered version of a model."""

    name: str
    version: int
    alias: str


def register_once(
    experiment: Experiment,
    checkpoint: Path,
    metrics: Metrics,
    uri: str,
    run_id: str,
    fingerprint: str,
    console: "Console",
    record_file: Path,
) -> Registered:
    """Register the checkpoint as arae-NAME, and promote it to champion if it is better than the current one.

    The version is written to the run's record, so that a finished run that is started again is not registered twice.
    """
    from pipelines.tracking.promotion import promote_if_better, register
    from pipelines.tracking.store import retry_while_unreachable

    record = read_record(record_file)
    assert record is not None
    done = record.get("registered", {})
    if done.get("uri") == uri and "alias" in done:  # a person may have promoted another one since
        return Registered(done["name"], done["version"], done["alias"])
    name, metric = f"arae-{experiment.name}", experiment.selection[0]

    def new_version() -> int:
        return register(
            uri,
            checkpoint,
            experiment.name,
            run_id,
            metric=metric,
            value=float(metrics[metric]),
            data_fingerprint=fingerprint,
            samples=experiment.samples,
        )

    known = done.get("uri") == uri  # killed between registration and promotion
    done = {
        "uri": uri,
        "name": name,
        "version": done["version"] if known else retry_while_unreachable(uri, new_version),
    }
    write_record(record_file, record | {"registered": done})
    version = done["version"]
    alias, why = retry_while_unreachable(uri, lambda: promote_if_better(uri, name, version))
    write_record(record_file, record | {"registered": done | {"alias": alias}})
    console.print(f"registered {name} version {version} as {alias}: {why}", soft_wrap=True)
    return Registered(name, version, alias)


def content_warning(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> str:
    """Return a warning if the best trial reconstructs far less than the baseline trial; "" otherwise.

    The baseline has the preset's own settings. Samples may be good although the code carries no information: then the
    decoder works as a language model.
    """
    own = next((row for row in rows if trial_number(row).strip("0") == ""), best)
    was, now = (row.get("validation_accuracy", math.nan) for row in (own, best))
    if not now < CONTENT_SHARE * was:
        return ""
    return (
        f"warning: trial {trial_number(best)} reconstructs {now:.0%} of the words or pixels, trial {trial_number(own)} "
        f"(the preset's own settings) {was:.0%}: its decoder may ignore the codes. Lower code.noise or "
        "encoder.adversarial_weight to keep more information in them"
    )


def show_model(checkpoint: Path, seed: int, console: "Console", tracker: "Tracker") -> Any:
    """Print samples and an interpolation between two of them, save both in the tracker, and return the samples."""
    from arae_core.model import Model
    from pipelines.reporting.plots import samples_figure

    model = Model.load(checkpoint)
    samples: Any = model.generate(100, seed=seed)
    path: Any = model.interpolate(samples[0], _different_sample(samples), INTERPOLATION_STEPS)
    if isinstance(samples, list):
        console.print("\n[bold]ten samples[/]")
        console.print("\n".join(f"  {sentence}" for sentence in samples[:10]), markup=False)
        console.print("\n[bold]from the first to another[/]")
        console.print("\n".join(f"  {sentence}" for sentence in path), markup=False)
        tracker.artifact("samples.txt", "\n".join(samples) + "\n")
        tracker.artifact("interpolation.txt", "\n".join(path) + "\n")
        if model.classes:
            sources = samples[:5]  # their classes alternate
            console.print("\n[bold]samples transferred to another class[/]")
            for i, source in enumerate(sources):
                wanted = model.classes[(i + 1) % len(model.classes)]
                console.print(f"  {wanted}: {model.transfer([source], wanted)[0]}", markup=False)
        return samples
    console.print("\n[bold]ten samples[/]")
    for row in (samples[:5], samples[5:10]):
        console.print(side_by_side(row), markup=False, overflow="crop", no_wrap=True)
    console.print("\n[bold]from the first to another[/]")
    console.print(side_by_side(path), markup=False, overflow="crop", no_wrap=True)
    tracker.figure("samples.png", samples_figure(samples, "samples"))
    tracker.figure("interpolation.png", samples_figure(path, "interpolation"))
    return samples


def _different_sample(samples: Any) -> Any:
    """Return the first sample that differs from the first one; the second if none does."""
    first = samples[0]
    return next((s for s in samples[1:] if (s != first if isinstance(s, str) else (s != first).any())), samples[1])


def next_command(checkpoint: Path, registered: Registered | None, uri: str, kind: str) -> str:
    """Return a command that uses the model. uri: of the registry."""
    model = f"models:/{registered.name}@{registered.alias}" if registered else str(checkpoint)
    words = [*command("generate"), "--model", model, "--count", "10"]
    if registered and uri != default_tracking_uri():
        words += ["--tracking-uri", uri]
    if kind == "image":
        words += ["--output", "samples.png"]
    return shlex.join(words)


def trial_closer(uri: str) -> Callable[[dict[str, Any]], None]:
    """Return a function that ends the MLflow run of a trial's row.

    The trial cannot end it, because Ray Tune stops trials in the middle of a report.
    """
    from pipelines.tracking.runs import Tracker

    def close(row: dict[str, Any]) -> None:
        if "run_id" in row:
            tracker = Tracker(uri, row["run_id"], row.get("unsent", ()), resumed=True, lineages=row.get("lineages", ()))
            tracker.tag({"state": str(row["state"]), **({"diverged": row["diverged"]} if "diverged" in row else {})})
            tracker.finish("FAILED" if row["state"] in ("failed", "diverged") else "FINISHED")

    return close
