"""Writing to the model registry: new versions, and which of them is the champion."""

import math
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.experiment.environment import python
from pipelines.tracking.registry import SCHEME, find_version
from pipelines.tracking.store import connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CANDIDATE = "champion", "candidate"
SECONDS_TO_SETTLE = 1.0
"""In which whoever has already compared itself with the champion of before will have set its alias."""
COMPARABLE = ("metric", "data_fingerprint", "samples")
"""Tags that two versions must share before their values can be compared."""


def register(
    uri: str,
    checkpoint: Path,
    config: str,
    run_id: str,
    *,
    metric: str,
    value: float,
    data_fingerprint: str,
    samples: int,
) -> int:
    """Package `checkpoint` and register it as a new version of arae-CONFIG; the version's number.

    `value` is what `metric` was on the validation data, from that many `samples`; the run is where it comes from.
    Raises ValueError for a bad checkpoint. The version has no alias yet: see `crown`.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model as ModelFile

    from arae_core.training.checkpoint import read_manifest
    from pipelines.tracking.package import write_package

    client, name = connect(uri), f"arae-{config}"
    manifest = read_manifest(checkpoint)
    tags = {
        "config": config,
        "kind": str(manifest["kind"]),
        "step": str(manifest["step"]),
        "metric": metric,
        "value": repr(float(value)),
        "data_fingerprint": data_fingerprint,
        "samples": str(samples),
    }
    run = client.get_run(run_id)
    with tempfile.TemporaryDirectory() as scratch:
        logged = client.create_logged_model(
            run.info.experiment_id, name=name, source_run_id=run_id, tags=tags, params=dict(run.data.params)
        )
        folder = Path(scratch, "model")
        try:
            write_package(
                checkpoint,
                folder,
                ModelFile(
                    artifact_path=logged.artifact_location,
                    model_uuid=logged.model_id,
                    run_id=run_id,
                    model_id=logged.model_id,
                ),
            )
            client.log_model_artifacts(logged.model_id, str(folder))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, logged.artifact_location, run_id=run_id, tags=tags, model_id=logged.model_id
    )
    return int(version.version)


def promote_if_better(uri: str, name: str, version: int) -> tuple[str, str]:
    """Give the version the alias it has earned: (champion or candidate, why).

    It becomes champion where there is none yet, or where it beats the present one on the same metric, data and number
    of samples. In any other case it is the candidate, and the champion stays: `promote` is for people who know better.

    MLflow cannot set an alias on condition, and another version may have been compared with the same champion at the
    same time, and set after this one. So it is looked at once more, and where another is there, compared with that:
    the better one stays in the end, though the other may have been told that it is champion.
    """
    client = connect(uri)
    new, crowned = client.get_model_version(name, str(version)), ""
    while True:
        aliases = client.get_registered_model(name).aliases
        holder = aliases.get(CHAMPION)
        if crowned and int(holder or 0) == version:
            break
        present = client.get_model_version(name, str(holder)) if holder is not None else None
        won, why = _beats(new, present)
        client.set_registered_model_alias(name, CHAMPION if won else CANDIDATE, str(version))
        if not won:
            return CANDIDATE, why
        crowned = why
        time.sleep(SECONDS_TO_SETTLE)
    if int(aliases.get(CANDIDATE, 0)) == version:
        client.delete_registered_model_alias(name, CANDIDATE)
    return CHAMPION, crowned


def _beats(new: "ModelVersion", present: "ModelVersion | None") -> tuple[bool, str]:
    from arae_core.evaluation.generation import better

    metric, value = new.tags["metric"], float(new.tags["value"])
    if not math.isfinite(value):
        return False, f"its {metric} is {value}"
    if present is None:
        return True, f"the first champion of {new.name} ({metric} {value:.4g})"
    if present.version == new.version:
        return True, "it is the champion already"
    for tag in COMPARABLE:
        if present.tags.get(tag) != new.tags.get(tag):
            return False, (
                f"the champion, version {present.version}, cannot be compared ({tag} {present.tags.get(tag)} there, "
                f"{new.tags.get(tag)} here); {python()} pipelines/promote.py --model {SCHEME}{new.name}/{new.version} "
                "--alias champion if this one should replace it"
            )
    held = float(present.tags["value"])
    won = better(metric, value, held)
    relation = "beats" if won else "does not beat"
    return won, f"{metric} {value:.4g} {relation} {held:.4g} of the champion, version {present.version}"


def promote(uri: str, model: str, alias: str) -> tuple[str, int, int | None]:
    """Point the alias at the version that `model` names: (name, version, the version that had it before or None)."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", alias) or re.fullmatch(r"[vV][0-9]+|latest", alias):
        raise ValueError(f"--alias must be a word such as champion, not latest or v1, got {alias!r}")
    version = find_version(uri, model)
    before = connect(uri).get_registered_model(version.name).aliases.get(alias)
    connect(uri).set_registered_model_alias(version.name, alias, version.version)
    return str(version.name), int(version.version), None if before is None else int(before)
