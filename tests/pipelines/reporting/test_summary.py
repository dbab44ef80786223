"""The end of a run: what is registered once stays as people have promoted it since."""

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from arae_core.model import Model
from pipelines.experiment.environment import python
from pipelines.experiment.presets import preset
from pipelines.reporting.display import side_by_side
from pipelines.reporting.summary import (
    Registered,
    _other,
    loss_of_content,
    next_command,
    register_once,
    show_model,
    trial_closer,
)
from pipelines.runtime.run_record import read_record, write_record
from pipelines.tracking.promotion import promote
from pipelines.tracking.runs import start_parent
from pipelines.tracking.store import connect, open_tracking


def closed(uri: str, checkpoint: Path, folder: Path, value: float) -> Registered:
    """Register the checkpoint as the run's in `folder`, with that figure."""
    file, metrics = folder / "run.json", {"generation_perplexity": value}
    if read_record(file) is None:
        write_record(file, {"run_id": start_parent(uri, "arae-grammar", folder.name, params={})})
    run_id = start_parent(uri, "arae-grammar", folder.name, params={}, resume=(read_record(file) or {})["run_id"])
    return register_once(preset("grammar"), checkpoint, metrics, uri, run_id, "data", Console(quiet=True), file)


def test_a_finished_run_started_again_undoes_no_promotion(
    tracking_uri: str, text_checkpoint: Path, tmp_path: Path
) -> None:
    first = closed(tracking_uri, text_checkpoint, tmp_path / "first", 20.0)
    second = closed(tracking_uri, text_checkpoint, tmp_path / "second", 10.0)
    third = closed(tracking_uri, text_checkpoint, tmp_path / "third", 15.0)
    assert [run.alias for run in (first, second, third)] == ["champion", "champion", "candidate"]
    promote(tracking_uri, "models:/arae-grammar/1", "champion")
    for folder, before in (("first", first), ("second", second)):
        assert closed(tracking_uri, text_checkpoint, tmp_path / folder, 1.0) == before
    aliases = connect(tracking_uri).get_registered_model("arae-grammar").aliases
    assert {name: int(version) for name, version in aliases.items()} == {"champion": 1, "candidate": 3}


def test_a_run_killed_before_it_was_crowned_is_registered_once(
    tracking_uri: str, text_checkpoint: Path, tmp_path: Path
) -> None:
    closed(tracking_uri, text_checkpoint, tmp_path / "run", 20.0)
    record = read_record(tmp_path / "run" / "run.json")
    assert record is not None
    del record["registered"]["alias"]
    write_record(tmp_path / "run" / "run.json", record)
    again = closed(tracking_uri, text_checkpoint, tmp_path / "run", 20.0)
    assert (again.version, again.alias) == (1, "champion")


def test_another_registry_gets_a_version_of_its_own(tracking_uri: str, text_checkpoint: Path, tmp_path: Path) -> None:
    for _ in range(2):
        closed(tracking_uri, text_checkpoint, tmp_path / "run", 20.0)
    other = open_tracking(f"sqlite:///{tmp_path / 'other.db'}")
    assert closed(other, text_checkpoint, tmp_path / "run", 20.0).version == 1
    assert len(connect(other).search_model_versions("name='arae-grammar'")) == 1


def test_a_version_says_by_what_it_may_be_compared(tracking_uri: str, text_checkpoint: Path, tmp_path: Path) -> None:
    closed(tracking_uri, text_checkpoint, tmp_path / "run", 20.0)
    tags = connect(tracking_uri).get_model_version("arae-grammar", "1").tags
    assert (tags["metric"], float(tags["value"])) == ("generation_perplexity", 20.0)
    assert (tags["data_fingerprint"], tags["samples"]) == ("data", str(preset("grammar").samples))


def test_a_best_trial_whose_codes_say_little_is_warned_of() -> None:
    """Figures of a sweep on SNLI, whose best trial was a language model."""
    own = {"trial": "ab_00000", "validation_accuracy": 0.6365}
    best = {"trial": "ab_00007", "validation_accuracy": 0.4215}
    other = {"trial": "ab_00010", "validation_accuracy": 0.6}
    warning = loss_of_content([best, own, other], best)
    assert warning.startswith("warning: 42% of the words or pixels come back from codes of trial 00007, 64% from")
    assert "trial 00000" in warning
    for fine in (own, other, {"trial": "ab_00003"}):
        assert loss_of_content([fine, own], fine) == ""
    assert loss_of_content([best, {"trial": "ab_00000"}], best) == "", "it came to no evaluation"


class Kept:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.texts, self.pictures = dict[str, str](), list[str]()

    def artifact(self, name: str, content: str) -> None:
        self.texts[name] = content

    def figure(self, name: str, _: object) -> None:
        self.pictures.append(name)


def shown(checkpoint: Path, seed: int = 3) -> tuple[str, Any, Any]:
    """What is printed of a model, what the tracker has of it, and the samples."""
    console, kept = Console(file=io.StringIO(), width=200), cast(Any, Kept())
    samples = show_model(checkpoint, seed, console, kept)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), kept, samples


def test_what_is_shown_of_a_model_is_what_is_kept_of_it(text_checkpoint: Path) -> None:
    text, kept, samples = shown(text_checkpoint)
    model = Model.load(text_checkpoint)
    assert samples == model.generate(100, seed=3) != model.generate(100, seed=0)
    assert kept.texts["samples.txt"].splitlines() == samples
    other = next(sample for sample in samples if sample != samples[0])
    path = model.interpolate(samples[0], other, 7)
    assert kept.texts["interpolation.txt"].splitlines() == path
    lines = [line.strip() for line in text.splitlines()]
    assert lines == ["", "ten samples", *samples[:10], "", "from the first to another", *path]


def test_samples_are_shown_as_of_another_class_than_their_own(labelled_checkpoint: Path) -> None:
    """They are of the classes in turn."""
    text, _, samples = shown(labelled_checkpoint)
    model = Model.load(labelled_checkpoint)
    assert samples[:2] == [*model.generate(1, seed=3, attribute="animal"), samples[1]]
    (*_, said) = text.partition("the first five as of another class\n")
    others = ["human", "animal", "human", "animal", "human"]
    assert [line.strip() for line in said.splitlines()] == [
        f"{other}: {model.transfer([sample], other)[0]}" for other, sample in zip(others, samples, strict=False)
    ]


def test_images_are_shown_in_two_rows_of_five(image_checkpoint: Path) -> None:
    text, kept, samples = shown(image_checkpoint)
    rows = f"{side_by_side(samples[:5])}\n{side_by_side(samples[5:10])}\n"
    assert "ten samples\n" + rows in text
    assert kept.pictures == ["samples.png", "interpolation.png"] and not kept.texts


@pytest.mark.parametrize("images", [False, True])
def test_an_interpolation_goes_to_the_first_sample_that_differs(images: bool) -> None:
    found: Any = ["a man", "a man", "a dog", "a cat"]
    if images:
        found = np.array([[[0, 1]], [[0, 1]], [[1, 1]], [[0, 0]]], np.uint8)
    assert np.array_equal(_other(found), found[2])
    assert np.array_equal(_other(found[:2]), found[1]), "where none does"


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
def test_how_a_trial_has_ended_is_in_mlflow(state: str, status: str, tracking_uri: str) -> None:
    row = {"run_id": start_parent(tracking_uri, "test", "trial", params={}), "state": state}
    row |= {"diverged": "loss is not finite"} if state == "diverged" else {}
    close = trial_closer(tracking_uri)
    close({"state": state})  # one that has not come to a run
    close(row)
    run = connect(tracking_uri).get_run(row["run_id"])
    assert (run.info.status, run.data.tags["state"]) == (status, state)
    assert run.data.tags.get("diverged") == row.get("diverged")
