"""Damaged, foreign and unsafe checkpoints are refused in one line with the folder's name and a reason."""

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
from arae_core.training.checkpoint import export_model, load_checkpoint, save_checkpoint
from arae_core.training.state import TrainingState
from tests.arae_core.training.conftest import FILES, change_manifest, sign_again


def refusal(folder: Path) -> str:
    """Load a folder; return the error message."""
    with pytest.raises(ValueError, match=str(folder)) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "deleted"])
def test_damage_to_any_file_is_found(name: str, damage: str, checkpoint: Path) -> None:
    path = checkpoint / name
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[data.index(b"arae") if name == "manifest.json" else len(data) // 2] ^= 1
    path.write_bytes({"truncated": bytes(data[:-5]), "empty": b""}.get(damage, bytes(data)))
    if damage == "deleted":
        path.unlink()
    assert name in refusal(checkpoint) or name == "manifest.json"


class Bomb:
    """A hostile pickle."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os._exit, ("a pickle was read",)


def torch_file(folder: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, folder / "model.pt")


def pickle_as_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    sign_again(folder)


def torch_as_safetensors(folder: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, folder / "training.safetensors")
    sign_again(folder)


def file_outside(folder: Path) -> None:
    (folder.parent / "outside").write_text("secret")
    change_manifest(folder, files={"../outside": {"bytes": 6, "sha256": "0"}})


def link_outside(folder: Path) -> None:
    shutil.move(folder / "settings.json", folder.parent / "settings.json")
    os.symlink(folder.parent / "settings.json", folder / "settings.json")


def unlisted_weights(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    del files["model.safetensors"]
    change_manifest(folder, files=files)


def change_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")
    sign_again(folder)


def other_tensors(folder: Path) -> None:
    change_weights(folder, {"encoder.embedding.weight": None, "encoder.more": torch.zeros(3)})


def other_sizes(folder: Path) -> None:
    change_weights(folder, {"decoder.output.bias": torch.zeros(3)})


def other_setting(folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps(settings | {"critic.stairs": 3}))
    sign_again(folder)


REFUSALS: list[tuple[Callable[[Path], Any], str]] = [
    (torch_file, "model.pt"),
    (pickle_as_safetensors, "model.safetensors"),
    (torch_as_safetensors, "training.safetensors"),
    (file_outside, "'../outside', which lies outside"),
    (link_outside, "'settings.json', which lies outside"),
    (unlisted_weights, "model.safetensors"),
    (other_tensors, "encoder.embedding.weight"),
    (other_sizes, "decoder.output.bias"),
    (other_setting, "unknown setting critic.stairs; did you mean critic.steps?"),
    (lambda folder: change_manifest(folder, version=2), "version 2; this program reads 1"),
    (lambda folder: change_manifest(folder, format="other"), "not a checkpoint of this program"),
    (lambda folder: change_manifest(folder, files=None), ""),
    (lambda folder: change_manifest(folder, files={}), ""),
    (lambda folder: change_manifest(folder, step="many"), ""),
    (lambda folder: change_manifest(folder, step=-3), "manifest.json"),
    (lambda folder: change_manifest(folder, kind=None), "manifest.json"),
    (lambda folder: change_manifest(folder, kind="image"), ""),
    (lambda folder: change_manifest(folder, shape={"height": 3}), ""),
    (lambda folder: shutil.rmtree(folder), "no checkpoint folder"),
    (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "is not a JSON object"),
]


@pytest.mark.parametrize(("tamper", "message"), REFUSALS, ids=lambda value: getattr(value, "__name__", value))
def test_foreign_and_unsafe_checkpoints_are_refused(
    tamper: Callable[[Path], Any], message: str, checkpoint: Path
) -> None:
    tamper(checkpoint)
    assert message in refusal(checkpoint)


def test_any_flipped_bit_of_the_manifest_is_found(checkpoint: Path) -> None:
    path = checkpoint / "manifest.json"
    whole = path.read_bytes()
    content = {name: value for name, value in json.loads(whole).items() if name != "sha256"}
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        try:
            load_checkpoint(checkpoint)
        except ValueError:
            continue
        # white space between the words, or the name of the seal
        assert json.loads(path.read_bytes()).items() >= content.items()


@pytest.mark.parametrize("changes", [{"kind": "image"}, {"shape": {"height": 3}}, {"step": None}])
def test_damaged_checkpoints_are_not_exported(changes: dict[str, Any], checkpoint: Path, tmp_path: Path) -> None:
    change_manifest(checkpoint, **changes)
    with pytest.raises(ValueError, match=str(checkpoint)):
        export_model(checkpoint, tmp_path / "exported")


def test_other_folders_and_missing_vocabularies_are_refused(state: TrainingState, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"is not a checkpoint of this program: it has no manifest.json"):
        Model.load(tmp_path)
    with pytest.raises(ValueError, match="vocabulary"):
        save_checkpoint(tmp_path / "c", state)
    assert not (tmp_path / "c").exists()
