"""The end of a run: what is registered once stays as people have promoted it since."""

from pathlib import Path

from rich.console import Console

from pipelines.engine.closing import Registered, loss_of_content, register_once
from pipelines.engine.records import read_record, write_record
from pipelines.experiment.presets import preset
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
