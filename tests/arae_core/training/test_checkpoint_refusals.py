"""Damaged, foreign and unsafe checkpoints are refused in one line with the folder's name and a reason."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

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


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and its checksum."""
    (folder / name).write_bytes(content)
    sign_again(folder)


def pickled() -> bytes:
    torch.save({"weights": torch.zeros(3)}, buffer := io.BytesIO())
    return buffer.getvalue()


def move_outside(folder: Path) -> None:
    shutil.move(folder / "settings.json", folder.parent / "settings.json")
    os.symlink(folder.parent / "settings.json", folder / "settings.json")


def with_weights(folder: Path, **changes: Any) -> None:
    """Change tensors, by name with __ for dots; None deletes one."""
    changed = load_file(folder / "model.safetensors") | {n.replace("__", "."): v for n, v in changes.items()}
    rewrite(folder, "model.safetensors", save({name: value for name, value in changed.items() if value is not None}))


def entries(folder: Path, name: str = "settings.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


def without_weights(folder: Path) -> None:
    files = entries(folder, "manifest.json")["files"]
    change_manifest(folder, files={name: facts for name, facts in files.items() if name != "model.safetensors"})


OUTSIDE = {"../outside": {"bytes": 6, "sha256": "0"}}
TENSOR = torch.zeros(3)
REFUSALS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / "model.pt").write_bytes(pickled()), "model.pt"),
    (lambda folder: rewrite(folder, "model.safetensors", pickle.dumps(Bomb())), "model.safetensors"),
    (lambda folder: rewrite(folder, "training.safetensors", pickled()), "training.safetensors"),
    (lambda folder: change_manifest(folder, files=OUTSIDE), "'../outside', which lies outside"),
    (move_outside, "'settings.json', which lies outside"),
    (without_weights, "model.safetensors"),
    (lambda folder: with_weights(folder, encoder__embedding__weight=None, encoder__more=TENSOR), "encoder.embedding"),
    (lambda folder: with_weights(folder, decoder__output__bias=TENSOR), "decoder.output.bias"),
    (
        lambda folder: rewrite(folder, "settings.json", json.dumps(entries(folder) | {"critic.stairs": 3}).encode()),
        "unknown setting critic.stairs; did you mean critic.steps?",
    ),
    *(
        (lambda folder, changes=changes: change_manifest(folder, **changes), message)
        for changes, message in (
            ({"version": 2}, "version 2; this program reads 1"),
            ({"format": "other"}, "not a checkpoint of this program"),
            ({"files": None}, ""),
            ({"files": {}}, ""),
            ({"step": "many"}, ""),
            ({"step": -3}, "manifest.json"),
            ({"kind": None}, "manifest.json"),
            ({"kind": "image"}, ""),
            ({"shape": {"height": 3}}, ""),
        )
    ),
    (shutil.rmtree, "no checkpoint folder"),
    (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "is not a JSON object"),
]


@pytest.mark.parametrize(("tamper", "message"), REFUSALS)
def test_foreign_and_unsafe_checkpoints_are_refused(
    tamper: Callable[[Path], Any], message: str, checkpoint: Path
) -> None:
    (checkpoint.parent / "outside").write_text("secret")
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
