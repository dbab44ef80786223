"""What is damaged, foreign, unsafe or of another kind is refused in one line with its name and a reason."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arae_core.model import Model
from arae_core.settings.tree import with_settings
from arae_core.training.checkpoint import export_model, load_checkpoint, save_checkpoint
from arae_core.training.checksums import sealed
from arae_core.training.state import TrainingState
from tests.arae_core.small import text_settings
from tests.arae_core.training.test_checkpoint import FILES, VOCABULARY, saved


def sign_again(folder: Path) -> None:
    """Make the manifest say that what lies in `folder` is what was written: an attacker can do so too."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))


def change_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest | changes)))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "deleted"])
def test_every_damage_to_every_file_is_found(name: str, damage: str, tmp_path: Path) -> None:
    saved(tmp_path / "c")
    path = tmp_path / "c" / name
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        place = data.index(b"arae") if name == "manifest.json" else len(data) // 2
        data[place] ^= 1
    path.write_bytes({"truncated": bytes(data[:-5]), "empty": b""}.get(damage, bytes(data)))
    if damage == "deleted":
        path.unlink()
    with pytest.raises(ValueError, match=str(tmp_path / "c")) as caught:
        load_checkpoint(tmp_path / "c")
    assert "\n" not in str(caught.value)
    if name != "manifest.json":
        assert name in str(caught.value)


def torch_file(folder: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, folder / "model.pt")


def pickle_under_a_good_name(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    sign_again(folder)


def torch_under_a_good_name(folder: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, folder / "training.safetensors")
    sign_again(folder)


def files_outside(folder: Path) -> None:
    (folder.parent / "outside").write_text("secret")
    change_manifest(folder, files={"../outside": {"bytes": 6, "sha256": "0"}})


def link_outside(folder: Path) -> None:
    shutil.move(folder / "settings.json", folder.parent / "settings.json")
    os.symlink(folder.parent / "settings.json", folder / "settings.json")


def unlisted_weights(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    del files["model.safetensors"]
    change_manifest(folder, files=files)


def other_tensors(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.more"] = tensors.pop("encoder.embedding.weight")
    save_file(tensors, folder / "model.safetensors")
    sign_again(folder)


def other_sizes(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.output.bias"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors")
    sign_again(folder)


def other_setting(folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(settings | {"critic.stairs": 3}))
    sign_again(folder)


def no_object(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


REFUSALS: list[tuple[Callable[[Path], None], str]] = [
    (torch_file, "model.pt: files that may be pickles are never read"),
    (pickle_under_a_good_name, "model.safetensors"),
    (torch_under_a_good_name, "training.safetensors"),
    (files_outside, "'../outside', which lies outside"),
    (link_outside, "'settings.json', which lies outside"),
    (unlisted_weights, "model.safetensors"),
    (other_tensors, "other tensors than its settings say"),
    (other_sizes, "decoder.output.bias"),
    (other_setting, "unknown setting critic.stairs; did you mean critic.steps?"),
    (lambda folder: change_manifest(folder, version=2), "has checkpoint version 2; this program reads 1"),
    (lambda folder: change_manifest(folder, format="other"), "not a checkpoint of this program"),
    (lambda folder: change_manifest(folder, files=None), ""),
    (lambda folder: change_manifest(folder, files={}), ""),
    (lambda folder: change_manifest(folder, step="many"), ""),
    (lambda folder: change_manifest(folder, step=-3), "manifest.json is not what was written"),
    (lambda folder: change_manifest(folder, kind=None), "manifest.json is not what was written"),
    (lambda folder: change_manifest(folder, kind="image"), ""),
    (lambda folder: change_manifest(folder, shape={"height": 3}), ""),
    (lambda folder: shutil.rmtree(folder), "there is no checkpoint folder"),
    (no_object, "is not a JSON object"),
]


class Bomb:
    """What a hostile pickle does."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os._exit, ("a pickle was read",)


@pytest.mark.parametrize(("tamper", "message"), REFUSALS, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_foreign_unsafe_or_of_another_kind_is_refused(
    tamper: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    saved(tmp_path / "c")
    tamper(tmp_path / "c")
    with pytest.raises(ValueError, match=str(tmp_path / "c")) as caught:
        load_checkpoint(tmp_path / "c")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_any_bit_of_the_manifest_that_flips_is_found(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    whole = path.read_bytes()
    said = {name: value for name, value in json.loads(whole).items() if name != "sha256"}
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        try:
            load_checkpoint(tmp_path / "c")
        except ValueError:
            continue
        # a space between the words, or the name of the seal
        assert json.loads(path.read_bytes()).items() >= said.items()


@pytest.mark.parametrize("changes", [{"kind": "image"}, {"shape": {"height": 3}}, {"step": None}])
def test_what_cannot_be_loaded_is_not_exported(changes: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path / "c")
    change_manifest(tmp_path / "c", **changes)
    with pytest.raises(ValueError, match=str(tmp_path / "c")):
        export_model(tmp_path / "c", tmp_path / "exported")


def test_a_model_of_sentences_is_not_saved_without_its_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is saved with its vocabulary"):
        save_checkpoint(tmp_path / "c", saved(tmp_path / "whole"))
    assert not (tmp_path / "c").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"is not a checkpoint of this program: it has no manifest.json"):
        Model.load(tmp_path)


@pytest.mark.parametrize("changes", [{"encoder.pooling": "mean"}, {"generator.normalization": "none"}])
def test_what_decides_how_codes_are_made_may_not_change(changes: dict[str, Any], tmp_path: Path) -> None:
    """Even where the tensors would be the same."""
    state = TrainingState.new(text_settings(), VOCABULARY.spec)
    folder = save_checkpoint(tmp_path / "c", state, VOCABULARY)
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be "):
        load_checkpoint(folder, settings=with_settings(state.settings, changes))
