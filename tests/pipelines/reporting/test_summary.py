"""The end of a run: registration, samples, warnings, the next command."""

import io
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from arae_core.model import Model
from pipelines.experiment.environment import python
from pipelines.experiment.presets import preset
from pipelines.reporting.display import side_by_side
from pipelines.reporting.summary import (
    Registered,
    content_warning,
    next_command,
    register_once,
    show_model,
    trial_closer,
)
from pipelines.runtime.run_record import read_record, write_record
from pipelines.tracking.promotion import promote
from pipelines.tracking.runs import start_parent
from pipelines.tracking.store import connect

SCORES = {"first": 20.0, "second": 10.0, "third": 15.0}


def registered(uri: str, checkpoint: Path, folder: Path, value: float) -> Registered:
    """Register the checkpoint of the run in `folder`, with this perplexity."""
    file, metrics = folder / "run.json", {"generation_perplexity": value}
    if read_record(file) is None:
        write_record(file, {"run_id": start_parent(uri, "arae-grammar", folder.name, params={})})
    run_id = start_parent(uri, "arae-grammar", folder.name, params={}, resume=(read_record(file) or {})["run_id"])
    return register_once(preset("grammar"), checkpoint, metrics, uri, run_id, "data", Console(quiet=True), file)


def test_a_run_is_registered_once_in_each_registry(
    tracking_uri: str, empty_database: Path, text_checkpoint: Path, tmp_path: Path
) -> None:
    runs = {name: registered(tracking_uri, text_checkpoint, tmp_path / name, value) for name, value in SCORES.items()}
    assert [run.alias for run in runs.values()] == ["champion", "champion", "candidate"]
    client = connect(tracking_uri)
    tags = client.get_model_version("arae-grammar", "1").tags
    assert (tags["metric"], float(tags["value"])) == ("generation_perplexity", 20.0)
    assert (tags["data_fingerprint"], tags["samples"]) == ("data", str(preset("grammar").samples))

    promote(tracking_uri, "models:/arae-grammar/1", "champion")
    for name in ("first", "second"):  # a finished run, started again, undoes no promotion
        assert registered(tracking_uri, text_checkpoint, tmp_path / name, 1.0) == runs[name]
    aliases = client.get_registered_model("arae-grammar").aliases
    assert {name: int(version) for name, version in aliases.items()} == {"champion": 1, "candidate": 3}

    file = tmp_path / "third" / "run.json"
    record = read_record(file)
    assert record is not None
    del record["registered"]["alias"]  # killed between registration and promotion
    write_record(file, record)
    third = registered(tracking_uri, text_checkpoint, tmp_path / "third", 15.0)
    assert (third.version, third.alias) == (3, "champion"), "its 15 beats the 20 of version 1"

    other = f"sqlite:///{shutil.copyfile(empty_database, tmp_path / 'other.db')}"
    assert registered(other, text_checkpoint, tmp_path / "third", 20.0).version == 1
    assert len(client.search_model_versions("name='arae-grammar'")) == 3


def test_a_best_trial_whose_codes_carry_little_gets_a_warning() -> None:
    """Accuracies of a sweep on SNLI, whose best trial was a language model."""
    own = {"trial": "ab_00000", "validation_accuracy": 0.6365}
    best = {"trial": "ab_00007", "validation_accuracy": 0.4215}
    other = {"trial": "ab_00010", "validation_accuracy": 0.6}
    warning = content_warning([best, own, other], best)
    for part in ("warning: ", "42%", "trial 00007", "64%", "trial 00000", "code.noise"):
        assert part in warning
    for fine in (own, other, {"trial": "ab_00003"}):
        assert content_warning([fine, own], fine) == ""
    assert content_warning([best, {"trial": "ab_00000"}], best) == "", "the baseline had no evaluation"


def show(checkpoint: Path, seed: int = 3) -> tuple[str, Mock, Any]:
    """Show a model; return the output, the tracker, and the samples."""
    console, tracker = Console(file=io.StringIO(), width=200), Mock()
    samples = show_model(checkpoint, seed, console, tracker)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), tracker, samples


def test_shown_samples_are_saved(text_checkpoint: Path) -> None:
    text, tracker, samples = show(text_checkpoint)
    model = Model.load(text_checkpoint)
    assert samples == model.generate(100, seed=3) != model.generate(100, seed=0)
    path = model.interpolate(samples[0], next(sample for sample in samples if sample != samples[0]), 7)
    saved = {call.args[0]: call.args[1].splitlines() for call in tracker.artifact.call_args_list}
    assert saved == {"samples.txt": samples, "interpolation.txt": path}
    lines = [line.strip() for line in text.splitlines()]
    assert lines == ["", "ten samples", *samples[:10], "", "from the first to another", *path]


def test_samples_are_transferred_to_another_class(labelled_checkpoint: Path) -> None:
    """Their classes alternate."""
    text, _, samples = show(labelled_checkpoint)
    model = Model.load(labelled_checkpoint)
    assert samples[:2] == [*model.generate(1, seed=3, attribute="animal"), samples[1]]
    (*_, shown) = text.partition("samples transferred to another class\n")
    others = ["human", "animal", "human", "animal", "human"]
    assert [line.strip() for line in shown.splitlines()] == [
        f"{other}: {model.transfer([sample], other)[0]}" for other, sample in zip(others, samples, strict=False)
    ]


def test_images_are_shown_in_two_rows_of_five(image_checkpoint: Path) -> None:
    text, tracker, samples = show(image_checkpoint)
    assert f"ten samples\n{side_by_side(samples[:5])}\n{side_by_side(samples[5:10])}\n" in text
    assert [call.args[0] for call in tracker.figure.call_args_list] == ["samples.png", "interpolation.png"]
    assert not tracker.artifact.called


@pytest.mark.parametrize(
    ("samples", "end"), [(["a man", "a man", "a dog", "a cat"], "a dog"), (["a man", "a man"], "a man")]
)
def test_an_interpolation_ends_at_the_first_different_sample(
    samples: list[str], end: str, text_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[tuple[str, str]] = []
    monkeypatch.setattr(Model, "generate", lambda *_, **__: samples)
    monkeypatch.setattr(Model, "interpolate", lambda _, a, b, steps: ends.append((a, b)) or [])  # type: ignore[func-returns-value]
    show(text_checkpoint)
    assert ends == [("a man", end)]


def test_the_command_to_type_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://default")
    folder, registered = Path("runs/a b"), Registered("arae-grammar", 3, "candidate")
    say = f"{python()} pipelines/generate.py --model "
    assert next_command(folder, None, "", "text") == say + "'runs/a b' --count 10"
    assert next_command(folder, None, "sqlite:///x.db", "text") == say + "'runs/a b' --count 10", "a folder needs none"
    model = "models:/arae-grammar@candidate --count 10"
    assert next_command(folder, registered, "http://default", "image") == say + f"{model} --output samples.png"
    assert next_command(folder, registered, "sqlite:///x.db", "text") == say + f"{model} --tracking-uri sqlite:///x.db"


@pytest.mark.parametrize(
    ("state", "status"),
    [("done", "FINISHED"), ("stopped", "FINISHED"), ("failed", "FAILED"), ("diverged", "FAILED")],
)
def test_the_end_of_a_trial_is_in_mlflow(state: str, status: str, tracking_uri: str) -> None:
    row = {"run_id": start_parent(tracking_uri, "test", "trial", params={}), "state": state}
    row |= {"diverged": "loss is not finite"} if state == "diverged" else {}
    close = trial_closer(tracking_uri)
    close({"state": state})  # a trial without a run
    close(row)
    run = connect(tracking_uri).get_run(row["run_id"])
    assert (run.info.status, run.data.tags["state"]) == (status, state)
    assert run.data.tags.get("diverged") == row.get("diverged")
