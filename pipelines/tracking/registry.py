"""Reads the model registry: resolves `--model`, lists versions."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.experiment.environment import python
from pipelines.tracking.package import CHECKPOINT
from pipelines.tracking.store import connect, first_line, open_tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from arae_core.model import Model

SCHEME = "models:/"


def resolve(model: str, tracking_uri: str) -> Path:
    """Return the checkpoint folder of `--model`: that folder itself, or a registered model's, downloaded if needed.

    Raise ValueError, one line, for a model that does not exist, naming those that do, or is not an ARAE checkpoint.
    """
    if not model.startswith(SCHEME):
        folder = Path(model)
        if not model or not (folder / "manifest.json").is_file():
            state = "is not a checkpoint (it has no manifest.json)" if folder.exists() else "does not exist"
            inside = sorted(file.parent for file in folder.glob("checkpoint*/manifest.json")) if model else []
            holds = f", but it contains checkpoints, the last one is {inside[-1]}" if inside else ""
            raise ValueError(
                f"--model {model or 'is empty'}: this folder {state}{holds}; use a checkpoint folder, "
                f"models:/NAME/VERSION or models:/NAME@ALIAS ({python()} pipelines/promote.py lists the models)"
            )
        return folder
    uri = open_tracking(tracking_uri, create=False)
    return _download(uri, find_version(uri, model))


def load_model(model: str, tracking_uri: str) -> tuple["Model", Path]:
    """Load the model of `--model`; return it and its checkpoint folder. Raise ValueError as `resolve` does."""
    folder = resolve(model, tracking_uri)
    from arae_core.model import Model

    return Model.load(folder), folder


def find_version(uri: str, model: str) -> "ModelVersion":
    """Return the version that models:/NAME/VERSION, models:/NAME@ALIAS or models:/NAME/latest names."""
    from mlflow.exceptions import MlflowException

    name, mark, wanted = _parts(model)
    client = connect(uri)
    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        names = ", ".join(sorted(m.name for m in _pages(client.search_registered_models))) or "none yet"
        raise ValueError(f"--model {model}: no model {name!r} is registered at {uri}; registered: {names}") from error
    versions = sorted(int(v.version) for v in _pages(client.search_model_versions, f"name='{name}'"))
    if mark == "@":
        if wanted not in registered.aliases:
            aliases = ", ".join(f"{alias} (version {v})" for alias, v in sorted(registered.aliases.items())) or "none"
            raise ValueError(
                f"--model {model}: {name} has no alias {wanted!r}; aliases: {aliases}; versions: {_listed(versions)}"
            )
        wanted = registered.aliases[wanted]
    elif wanted == "latest" and versions:
        wanted = str(versions[-1])
    elif not wanted.isdecimal() or int(wanted) not in versions:
        raise ValueError(f"--model {model}: {name} has no version {wanted!r}; versions: {_listed(versions)}")
    return client.get_model_version(name, str(int(wanted)))


def _parts(model: str) -> tuple[str, str, str]:
    rest = model.removeprefix(SCHEME)
    mark = "@" if "@" in rest else "/"
    name, _, wanted = rest.partition(mark)
    if not model.startswith(SCHEME) or not name or not wanted or "/" in wanted:
        raise ValueError(
            f"--model must be models:/NAME/VERSION or models:/NAME@ALIAS for a registered model, got {model}"
        )
    return name, mark, wanted


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions)) or "none"


def _download(uri: str, version: "ModelVersion") -> Path:
    """Return the checkpoint folder of the version. A download from a server is deleted when this process ends."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    label = f"{SCHEME}{version.name}/{version.version}"
    source = connect(uri).get_model_version_download_uri(version.name, version.version)
    scratch = None
    if not source.startswith(("/", "file:")):
        scratch = tempfile.mkdtemp(prefix="arae-model-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    try:
        listed = mlflow.artifacts.list_artifacts(f"{source}/{CHECKPOINT}", tracking_uri=uri)
        if not any(Path(item.path).name == "manifest.json" for item in listed):
            raise ValueError(f"--model {label} is not an ARAE checkpoint; another program has registered it")
        path = mlflow.artifacts.download_artifacts(f"{source}/{CHECKPOINT}", dst_path=scratch, tracking_uri=uri)
    except (MlflowException, OSError) as error:
        raise ValueError(f"--model {label}: cannot read its files from {source} ({first_line(error)})") from error
    return Path(path)


def list_versions(uri: str) -> list[dict[str, Any]]:
    """Return a row for every registered version, sorted by name, newest first.

    Keys: name, version, aliases, kind, metric, value, samples, data_fingerprint, step, run_id, created (ISO, UTC). A
    value that another program has not recorded is None.
    """
    client = connect(uri)
    rows = []
    for model in sorted(_pages(client.search_registered_models), key=lambda m: m.name):
        for version in _pages(client.search_model_versions, f"name='{model.name}'"):
            value, step, samples = (version.tags.get(name) for name in ("value", "step", "samples"))
            created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
            rows.append(
                {
                    "name": model.name,
                    "version": int(version.version),
                    "aliases": sorted(a for a, v in model.aliases.items() if int(v) == int(version.version)),
                    "kind": version.tags.get("kind"),
                    "metric": version.tags.get("metric"),
                    "value": number(value),
                    "samples": _whole(samples),
                    "data_fingerprint": version.tags.get("data_fingerprint"),
                    "step": _whole(step),
                    "run_id": version.run_id or None,
                    "created": created.isoformat(timespec="seconds"),
                }
            )
    return sorted(rows, key=lambda row: (row["name"], -row["version"]))


def number(tag: str | None) -> float | None:
    """Return the number that a tag records; None if there is none, or another program wrote something else."""
    try:
        return None if tag is None else float(tag)
    except ValueError:
        return None


def _whole(tag: str | None) -> int | None:
    found = number(tag)
    return int(found) if found is not None and found.is_integer() else None


def _pages(search: Callable[..., Any], condition: str | None = None) -> Iterator[Any]:
    """Yield all results of an MLflow search, page by page."""
    token = None
    while True:
        page = search(condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
