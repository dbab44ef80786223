"""Checkpoints: settings and vocabulary as JSON, weights and training state as safetensors. Never a pickle.

    manifest.json          format, kind, step; size and SHA-256 of every other file, and of itself
    settings.json          dotted name -> value
    vocabulary/            the tokenizer, in its own format (text)
    model.safetensors      weights of all parts
    about.json             provenance, if the caller gives any
    training.safetensors   optimizers and random numbers    } not in an exported model
    training.json          anything the caller keeps        }

A folder appears under its name when it is complete: it is whole or absent.
"""

import json
import re
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from arae_core.data.atomic import replace_folder_atomically
from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import KINDS, Settings
from arae_core.settings.conditions import value_of
from arae_core.settings.declaration import named
from arae_core.settings.root import ROOMS
from arae_core.settings.tree import flatten, with_settings
from arae_core.settings.upgrade import upgraded
from arae_core.training.checksums import is_intact, sealed, sha256_of
from arae_core.training.state import TrainingState

FORMAT, VERSION = "arae", 1
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy")
OPTIONAL = ("average", "critic", "classifier", "aligner")
"""Parts that a checkpoint may lack, or have beyond what its settings need."""


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    vocabulary: Vocabulary | None = None,
    extra: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
) -> Path:
    """Save a run to `folder`, atomically; a checkpoint that was there is replaced.

    extra: JSON for resuming, kept with the training state. about: JSON that an exported model keeps, too, see
    `read_about`. Raise ValueError for a model of sentences without its vocabulary, and OSError if it cannot be written.
    """
    if state.settings.kind == "text" and vocabulary is None:
        raise ValueError("a model of sentences is saved with its vocabulary")
    folder = Path(folder)
    with replace_folder_atomically(folder) as new:
        _write(new, state, vocabulary, extra or {}, about)
    return folder


def _write(
    folder: Path,
    state: TrainingState,
    vocabulary: Vocabulary | None,
    extra: dict[str, Any],
    about: dict[str, Any] | None,
) -> None:
    flat = flatten(state.settings)  # may hold more than the core's settings
    _write_json(folder / "settings.json", {name: flat[name] for name in flatten(Settings())})
    if vocabulary is not None:
        vocabulary.save(folder / "vocabulary")
    save_file(_contiguous(dict(state.modules.state_dict())), folder / "model.safetensors")
    training: dict[str, Tensor] = {"draws": state.draws.get_state()}
    for part, optimizer in state.optimizers.items():
        for i, values in optimizer.state_dict()["state"].items():
            training |= {f"{part}.{i}.{name}": value for name, value in values.items() if value is not None}
    save_file(_contiguous(training), folder / "training.safetensors")
    for path in folder.glob("*.safetensors"):  # their library makes files that only the user can read
        path.chmod((folder / "settings.json").stat().st_mode)
    _write_json(folder / "training.json", extra)
    if about is not None:
        _write_json(folder / "about.json", about)
    _write_manifest(folder, state.settings.kind, state.step, state.spec)


def export_model(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint without its training state, for a registry. Raise ValueError as `load_checkpoint` does."""
    manifest = read_manifest(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    for name in manifest["files"]:
        if not name.startswith("training."):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint / name, folder / name)
    _write_manifest(folder, manifest["kind"], manifest["step"], _shape(manifest))
    return folder


def read_about(folder: Path) -> dict[str, Any]:
    """Return the provenance that `save_checkpoint` was given; {} if there is none.

    Raise ValueError as `load_checkpoint` does.
    """
    manifest = read_manifest(Path(folder))
    return _read_json(Path(folder) / "about.json") if "about.json" in manifest["files"] else {}


def load_checkpoint(
    folder: Path, device: torch.device | str = "cpu", settings: Settings | None = None
) -> tuple[TrainingState, Vocabulary | None, dict[str, Any]]:
    """Load a checkpoint or an exported model: the state, the vocabulary (text) and `extra`.

    settings: continue with these instead of the stored ones. They must have the same values for every setting that
    decides which tensors there are (`structural` in its declaration).
    Raise ValueError, naming the folder, for a missing, truncated, foreign or pickled checkpoint and for other sizes.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        return _load(folder, manifest, device, settings)
    except (RuntimeError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        # The files match the manifest, but this program did not write their content.
        line = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(line if str(folder) in line else f"{folder} cannot be loaded: {line}") from None


def _load(
    folder: Path, manifest: dict[str, Any], device: torch.device | str, settings: Settings | None
) -> tuple[TrainingState, Vocabulary | None, dict[str, Any]]:
    stored = with_settings(Settings(), upgraded(_read_json(folder / "settings.json")))
    if settings is not None:
        for name in named(Settings, "structural"):
            old, new = (each.chosen(name)[0] if name in ROOMS else value_of(each, name) for each in (stored, settings))
            if old != new:
                raise ValueError(f"{name} must be {old!r} as in the checkpoint {folder}, got {new!r}")
    state = TrainingState.new(settings or stored, _shape(manifest), device)
    _load_weights(state, _load_tensors(folder / "model.safetensors"), folder)
    state.step = int(manifest["step"])
    extra: dict[str, Any] = {}
    if "training.safetensors" in manifest["files"]:
        _load_training(state, _load_tensors(folder / "training.safetensors"))
        extra = _read_json(folder / "training.json")
    vocabulary = Vocabulary.load(folder / "vocabulary") if manifest["kind"] == "text" else None
    return state, vocabulary, extra


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint. Raise ValueError unless all its files have the right size and content."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no checkpoint folder {folder}")
    unsafe = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in PICKLES)
    if unsafe:
        raise ValueError(f"{folder} holds {unsafe[0]}, which may be a pickle; pickles are never read: remove it")
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder} is not a checkpoint of this program: it has no manifest.json")
    manifest = _read_json(folder / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{folder} is not a checkpoint of this program: its format is {manifest.get('format')!r}")
    if manifest.get("version") != VERSION:
        raise ValueError(f"{folder} has checkpoint version {manifest.get('version')}; this program reads {VERSION}")
    if not is_intact(manifest) or not _is_complete(manifest):
        raise ValueError(f"{folder} is damaged: manifest.json is not what was written; use another checkpoint")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        raise ValueError(f"{folder} is damaged: its manifest.json names no files")
    for name, facts in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder}: its manifest names {name!r}, which lies outside")
        if not path.is_file():
            raise ValueError(f"{folder} is not complete: {name} is missing; use another checkpoint of the run")
        if path.stat().st_size != facts.get("bytes") or sha256_of(path) != facts.get("sha256"):
            raise ValueError(f"{folder} is damaged: {name} is not what was written; use another checkpoint of the run")
    for name in ("settings.json", "model.safetensors"):
        if name not in files:
            raise ValueError(f"{folder} is damaged: its manifest.json does not name {name}")
    return manifest


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a file of safetensors: {error}") from None


def _load_weights(state: TrainingState, weights: dict[str, Tensor], folder: Path) -> None:
    missing = state.modules.load_state_dict(_renamed(weights), strict=False)
    fresh = [name for name in missing.missing_keys if name.split(".")[0] not in OPTIONAL]
    if fresh or any(name.split(".")[0] not in OPTIONAL for name in missing.unexpected_keys):
        raise ValueError(f"{folder} has other tensors than its settings say: {(fresh + missing.unexpected_keys)[:3]}")
    if any(name.startswith("average.") for name in missing.missing_keys):
        state.modules["average"].load_state_dict(state.modules["prior"].state_dict())


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by today's names: the prior was called generator before."""
    return {re.sub(r"^generator\.", "prior.", name): tensor for name, tensor in tensors.items()}


def _load_training(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    draws = tensors.pop("draws")
    if draws.shape == state.draws.get_state().shape:
        state.draws.set_state(draws)
    else:  # saved on another kind of device, with another kind of generator
        state.draws.manual_seed(state.settings.seed + state.step)
    for part, optimizer in state.optimizers.items():
        saved: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _renamed(tensors).items():
            owner, index, key = name.split(".")
            if owner == part:
                saved.setdefault(int(index), {})[key] = tensor
        # Only the moments come from the file; the rates come from the settings, which a search may have changed.
        optimizer.load_state_dict({"state": saved, "param_groups": optimizer.state_dict()["param_groups"]})


def _is_complete(manifest: dict[str, Any]) -> bool:
    kind, step, spec = (manifest.get(name) for name in ("kind", "step", "shape"))
    if kind not in KINDS or not isinstance(step, int) or step < 0 or not isinstance(spec, dict):
        return False
    names = {each.name for each in fields(TextSpec if kind == "text" else ImageSpec)}
    return set(spec) <= names


def _shape(manifest: dict[str, Any]) -> DataSpec:
    return TextSpec(**manifest["shape"]) if manifest["kind"] == "text" else ImageSpec(**manifest["shape"])


def _write_manifest(folder: Path, kind: str, step: int, spec: DataSpec) -> None:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    files = {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in paths}
    manifest = {"format": FORMAT, "version": VERSION, "kind": kind, "step": step, "shape": asdict(spec)}
    _write_json(folder / "manifest.json", sealed(manifest | {"files": files}))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); use another checkpoint of the run") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


__all__ = ["export_model", "load_checkpoint", "read_about", "read_manifest", "save_checkpoint"]
