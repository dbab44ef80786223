"""The end of a training or a sweep: registering the best model, showing what it writes, and what to type next."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.environment import python
from pipelines.experiment.settings import Experiment
from pipelines.reporting.display import short, side_by_side
from pipelines.runtime.run_record import read_record, write_record
from pipelines.training.worker import Metrics

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.tracking.runs import Tracker

STEPS = 7
"""Sentences or images of the interpolation shown."""
LITTLE = 0.8
"""Share of what comes back by the preset's own settings below which a model's codes are warned of."""


@dataclass(frozen=True)
class Registered:
    """A model's place in the registry."""

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
    """Register the checkpoint as arae-NAME; it becomes champion where it beats the present one.

    The version is written into the run's record, so that a finished run that is started again registers nothing twice.
    """
    from pipelines.tracking.promotion import promote_if_better, register
    from pipelines.tracking.store import retry_while_unreachable

    record = read_record(record_file)
    assert record is not None
    done = record.get("registered", {})
    if done.get("uri") == uri and "alias" in done:  # since when a person may have promoted another
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

    known = done.get("uri") == uri  # killed before it was crowned
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


def loss_of_content(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> str:
    """A warning where far less comes back from the best trial's codes than from those of the first, which has the
    preset's own settings; else empty.

    Samples that are drawn may be good although the code says nothing: then a language model has written them.
    """
    own = next((row for row in rows if short(row).strip("0") == ""), best)
    was, now = (row.get("validation_accuracy", math.nan) for row in (own, best))
    if not now < LITTLE * was:
        return ""
    return (
        f"warning: {now:.0%} of the words or pixels come back from codes of trial {short(best)}, {was:.0%} from those "
        f"of trial {short(own)}, the preset's own settings: its samples may be those of a decoder that ignores codes. "
        "Less code.noise or encoder.adversarial_weight leaves more in them"
    )


def show_model(checkpoint: Path, seed: int, console: "Console", tracker: "Tracker") -> Any:
    """Print ten samples and an interpolation between two of them, and keep both in the tracker; the samples."""
    from arae_core.model import Model
    from pipelines.reporting.plots import samples_picture

    model = Model.load(checkpoint)
    samples: Any = model.generate(100, seed=seed)
    path: Any = model.interpolate(samples[0], _other(samples), STEPS)
    if isinstance(samples, list):
        console.print("\n[bold]ten samples[/]")
        console.print("\n".join(f"  {sentence}" for sentence in samples[:10]), markup=False)
        console.print("\n[bold]from the first to another[/]")
        console.print("\n".join(f"  {sentence}" for sentence in path), markup=False)
        tracker.artifact("samples.txt", "\n".join(samples) + "\n")
        tracker.artifact("interpolation.txt", "\n".join(path) + "\n")
        if model.classes:
            sources = samples[:5]  # of the classes in turn
            console.print("\n[bold]the first five as of another class[/]")
            for i, source in enumerate(sources):
                wanted = model.classes[(i + 1) % len(model.classes)]
                console.print(f"  {wanted}: {model.transfer([source], wanted)[0]}", markup=False)
        return samples
    console.print("\n[bold]ten samples[/]")
    for row in (samples[:5], samples[5:10]):
        console.print(side_by_side(row), markup=False, overflow="crop", no_wrap=True)
    console.print("\n[bold]from the first to another[/]")
    console.print(side_by_side(path), markup=False, overflow="crop", no_wrap=True)
    tracker.figure("samples.png", samples_picture(samples, "samples"))
    tracker.figure("interpolation.png", samples_picture(path, "interpolation"))
    return samples


def _other(samples: Any) -> Any:
    """The first sample that differs from the first one, if any does."""
    first = samples[0]
    return next((s for s in samples[1:] if (s != first if isinstance(s, str) else (s != first).any())), samples[1])


def next_command(checkpoint: Path, registered: Registered | None, uri: str, kind: str) -> str:
    """The command to type after this one. uri: where the registry is, where that has to be said."""
    model = f"models:/{registered.name}@{registered.alias}" if registered else str(checkpoint)
    words = [python(), "pipelines/generate.py", "--model", model, "--count", "10"]
    if registered and uri:
        words += ["--tracking-uri", uri]
    if kind == "image":
        words += ["--output", "samples.png"]
    return shlex.join(words)


def again(command: str, words: Sequence[str], flag: str, name: str) -> str:
    """The command that goes on with what was interrupted: the same one, with its name if it had none."""
    named = list(words) if flag in words else [*words, flag, name]
    return shlex.join([python(), f"pipelines/{command}", *named])


def trial_closer(uri: str) -> Callable[[dict[str, Any]], None]:
    """What to do in MLflow with a trial that has ended: Ray Tune stops it in mid-report, so it cannot itself."""
    from pipelines.tracking.runs import Tracker

    def close(row: dict[str, Any]) -> None:
        if "run_id" in row:
            # what a trial could not send before it was stopped lies in its last checkpoint
            tracker = Tracker(uri, row["run_id"], row.get("unsent", ()), resumed=True, lineages=row.get("lives", ()))
            tracker.tag({"state": str(row["state"]), **({"diverged": row["diverged"]} if "diverged" in row else {})})
            tracker.finish("FAILED" if row["state"] in ("failed", "diverged") else "FINISHED")

    return close
