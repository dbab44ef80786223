import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from arae_core.model import Model
from pipelines.experiment.environment import python
from pipelines.tracking.promotion import promote, promote_if_better
from pipelines.tracking.registry import find_version, list_versions, resolve
from pipelines.tracking.store import connect


def test_a_checkpoint_folder_is_taken_as_it_is(text_checkpoint: Path, tracking_uri: str) -> None:
    assert resolve(str(text_checkpoint), tracking_uri) == text_checkpoint


@pytest.mark.parametrize("name", ["models:/arae-tiny/1", "models:/arae-tiny@champion", "models:/arae-tiny/latest"])
def test_a_registered_model_is_the_checkpoint(
    name: str, register: Callable[..., int], tracking_uri: str, text_checkpoint: Path
) -> None:
    promote_if_better(tracking_uri, "arae-tiny", register())
    folder = resolve(name, tracking_uri)
    assert Model.load(folder).generate(5, temperature=1) == Model.load(text_checkpoint).generate(5, temperature=1)
    assert not list(folder.glob("training.*"))


def test_nothing_but_text_and_safetensors_is_stored(register: Callable[..., int], tmp_path: Path) -> None:
    register()
    files = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".py", ".typed", ".json", ".yaml", ".txt", ".safetensors", ""}
    assert {path.name for path in files if not path.suffix} == {"MLmodel"}


def test_requirements_can_be_installed(register: Callable[..., int], tmp_path: Path) -> None:
    register()
    lines = next(tmp_path.rglob("requirements.txt")).read_text().splitlines()
    assert [line.split("==")[0] for line in lines] == [
        *("mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch"),
    ]
    assert not any("+" in line for line in lines)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/arae-tini@champion", "no model 'arae-tini' is registered at .*; registered: arae-tiny"),
        ("models:/arae-tiny/7", "arae-tiny has no version '7'; versions: 1, 2"),
        ("models:/arae-tiny/²", "arae-tiny has no version .².; versions: 1, 2"),
        ("models:/arae-tiny@best", r"arae-tiny has no alias 'best'; aliases: champion \(version 1\); versions: 1, 2"),
        ("models:/arae-tiny", "--model must be models:/NAME/VERSION"),
        ("models:/arae-tiny/", "--model must be models:/NAME/VERSION"),
    ],
)
def test_what_does_not_exist_names_what_does(
    model: str, message: str, register: Callable[..., int], tracking_uri: str
) -> None:
    promote_if_better(tracking_uri, "arae-tiny", register())
    register()
    with pytest.raises(ValueError, match=message):
        resolve(model, tracking_uri)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_is_no_checkpoint(
    made: bool, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no `python` to type
    folder = tmp_path / "somewhere"
    if made:
        folder.mkdir()
    with pytest.raises(ValueError, match="is not a checkpoint" if made else "does not exist") as error:
        resolve(str(folder), tracking_uri)
    assert f"({python()} pipelines/promote.py lists the models)" in str(error.value)


def test_a_folder_of_checkpoints_names_its_last(tmp_path: Path, tracking_uri: str) -> None:
    for name in ("checkpoint_000000", "checkpoint_000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a checkpoint .*contains checkpoints, .*checkpoint_000001; use"):
        resolve(str(tmp_path), tracking_uri)


def test_a_model_registered_by_something_else(tracking_uri: str, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "MLmodel").write_text("flavors: {}\n")
    client = connect(tracking_uri)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", (tmp_path / "foreign").as_uri())
    with pytest.raises(ValueError, match="models:/foreign/1 is not an ARAE checkpoint"):
        resolve("models:/foreign/1", tracking_uri)
    assert list_versions(tracking_uri)[0]["metric"] is None


def test_a_truncated_file_in_the_store_is_noticed(register: Callable[..., int], tracking_uri: str) -> None:
    register()
    folder = resolve("models:/arae-tiny/1", tracking_uri)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        Model.load(folder)


def test_files_that_are_gone_from_the_store(register: Callable[..., int], tracking_uri: str) -> None:
    register()
    folder = resolve("models:/arae-tiny/1", tracking_uri)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(ValueError, match="models:/arae-tiny/1 "):
        resolve("models:/arae-tiny/1", tracking_uri)


def test_the_listing_shows_every_version(register: Callable[..., int], tracking_uri: str) -> None:
    for value in (3.0, 2.0):
        promote_if_better(tracking_uri, "arae-tiny", register(value))
    promote(tracking_uri, "models:/arae-tiny/2", "mine")
    register(config="another")
    rows = list_versions(tracking_uri)
    assert [(row["name"], row["version"]) for row in rows] == [
        *(("arae-another", 1), ("arae-tiny", 2), ("arae-tiny", 1)),
    ]
    assert rows[1]["aliases"] == ["champion", "mine"]
    assert (rows[1]["metric"], rows[1]["value"], rows[1]["step"]) == ("generation_perplexity", 2.0, 40)
    assert json.loads(json.dumps(rows)) == rows


def test_latest_is_the_newest_by_number(register: Callable[..., int], tracking_uri: str) -> None:
    newest = [register() for _ in range(2)][-1]
    assert int(find_version(tracking_uri, "models:/arae-tiny/latest").version) == newest


def test_models_and_versions_of_every_page_are_seen(
    register: Callable[..., int], tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow gives a hundred at a time; here, one."""
    for config in ("tiny", "tiny", "tiny", "other"):
        register(config=config)
    promote_if_better(tracking_uri, "arae-tiny", 2)
    client = connect(tracking_uri)
    for name in ("search_registered_models", "search_model_versions"):
        monkeypatch.setattr(client, name, partial(getattr(client, name), max_results=1))
    rows = [(row["name"], row["version"], row["aliases"]) for row in list_versions(tracking_uri)]
    tiny = [("arae-tiny", version, ["champion"] if version == 2 else []) for version in (3, 2, 1)]
    assert rows == [("arae-other", 1, []), *tiny]
    assert int(find_version(tracking_uri, "models:/arae-tiny/latest").version) == 3
    with pytest.raises(ValueError, match=r"registered: arae-other, arae-tiny$"):
        find_version(tracking_uri, "models:/tiny/1")


def test_versions_are_numbers_and_made_when_they_were(tracking_uri: str) -> None:
    """Ten come after nine. The time is that of the world, whatever the clock on the wall here says."""
    client, before = connect(tracking_uri), datetime.now(UTC).replace(microsecond=0)
    client.create_registered_model("arae-many")
    for _ in range(11):
        client.create_model_version("arae-many", "nowhere")
    assert int(find_version(tracking_uri, "models:/arae-many/latest").version) == 11
    rows = list_versions(tracking_uri)
    assert [row["version"] for row in rows] == list(range(11, 0, -1))
    assert all(before <= datetime.fromisoformat(row["created"]) <= datetime.now(UTC) for row in rows)
    with pytest.raises(ValueError, match=r"no version '12'; versions: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11$"):
        find_version(tracking_uri, "models:/arae-many/12")
