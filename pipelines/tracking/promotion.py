"""Registration and promotion of models."""

import math
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.experiment.environment import python
from pipelines.tracking.registry import SCHEME, find_version, number
from pipelines.tracking.store import connect

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CANDIDATE = "champion", "candidate"
SECONDS_TO_SETTLE = 1.0
"""Time in which another process that has compared its version with the previous champion sets its alias."""
COMPARABLE = ("metric", "data_fingerprint", "samples")
"""Tags that must be equal for the values of two versions to be comparable."""


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
    """Package `checkpoint`, register it as a new version of arae-CONFIG, and return the version's number.

    value: `metric` on the validation data, measured with `samples` samples. run_id: the run that trained the model.
    The version gets no alias; see `promote_if_better`. Raise ValueError for an invalid checkpoint.
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
    """Make the version champion or candidate, and return (alias, reason).

    It becomes champion if there is none, or if it beats the champion on the same metric, data and number of samples.
    Otherwise it becomes candidate and the champion stays; people can overrule this with `promote`.

    MLflow has no conditional update of an alias: another version may be compared with the same champion at the same
    time, and replace this one. So the alias is read again after a moment, and if another version has it, the two are
    compared. The better one keeps the alias, but both calls may return champion.
    """
    client = connect(uri)
    new, reason = client.get_model_version(name, str(version)), ""
    while True:
        aliases = client.get_registered_model(name).aliases
        holder = aliases.get(CHAMPION)
        if reason and int(holder or 0) == version:
            break
        champion = client.get_model_version(name, str(holder)) if holder is not None else None
        won, why = _beats(new, champion)
        client.set_registered_model_alias(name, CHAMPION if won else CANDIDATE, str(version))
        if not won:
            return CANDIDATE, why
        reason = why
        time.sleep(SECONDS_TO_SETTLE)
    if int(aliases.get(CANDIDATE, 0)) == version:
        client.delete_registered_model_alias(name, CANDIDATE)
    return CHAMPION, reason


def _beats(new: "ModelVersion", champion: "ModelVersion | None") -> tuple[bool, str]:
    """Compare a version with the champion, if there is one; return (it is better, reason)."""
    from arae_core.evaluation.generation import better

    metric, value = new.tags["metric"], float(new.tags["value"])
    if not math.isfinite(value):
        return False, f"its {metric} is {value}"
    if champion is None:
        return True, f"the first champion of {new.name} ({metric} {value:.4g})"
    if champion.version == new.version:
        return True, "it is the champion already"
    for tag in COMPARABLE:
        if champion.tags.get(tag) != new.tags.get(tag):
            return False, (
                f"not comparable with the champion, version {champion.version} ({tag} {new.tags.get(tag)}, champion's "
                f"{champion.tags.get(tag)}); to promote it anyway: {python()} pipelines/promote.py "
                f"--model {SCHEME}{new.name}/{new.version} --alias champion"
            )
    to_beat = number(champion.tags.get("value"))
    if to_beat is None:
        return False, (
            f"not comparable with the champion, version {champion.version}, whose value was not recorded by this "
            f"program; to promote it anyway: {python()} pipelines/promote.py "
            f"--model {SCHEME}{new.name}/{new.version} --alias champion"
        )
    won = better(metric, value, to_beat)
    relation = "beats" if won else "does not beat"
    return won, f"{metric} {value:.4g} {relation} {to_beat:.4g} of the champion, version {champion.version}"


def promote(uri: str, model: str, alias: str) -> tuple[str, int, int | None]:
    """Point the alias at the version named by `model`; return (name, version, previous version or None)."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,254}", alias) or re.fullmatch(r"[vV][0-9]+|latest", alias):
        shown = alias if len(alias) <= 40 else f"{alias[:40]}... ({len(alias)} characters)"
        raise ValueError(
            f"--alias must be a word such as champion, of at most 255 characters, not latest or v1, got {shown!r}"
        )
    version = find_version(uri, model)
    before = connect(uri).get_registered_model(version.name).aliases.get(alias)
    connect(uri).set_registered_model_alias(version.name, alias, version.version)
    return str(version.name), int(version.version), None if before is None else int(before)
