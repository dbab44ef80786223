"""MLflow runs: one for each training, a parent for each sweep and a child for each trial.

MLflow's global "active run" is never used. A run is addressed by tracking URI and id, so that the driver, a trial and a
Ray worker on another machine can all write to it.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.tracking.status import has_run
from pipelines.tracking.store import artifact_folder, connect, open_tracking, retry_while_unreachable
from pipelines.tracking.tracker import Tracker

__all__ = ["Tracker", "open_tracking", "start_or_resume_child", "start_parent"]

PARENT, TRIAL = "mlflow.parentRunId", "trial_id"
LONGEST_VALUE = 6000
"""Characters of a parameter that MLflow stores."""


def start_parent(
    uri: str,
    experiment: str,
    run_name: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    resume: str | None = None,
    storage: Path | None = None,
) -> str:
    """Start the run of a training or a sweep, or reopen the run with id `resume` if it exists; return the run id.

    Runs are not found by name: other runs may have the same one, and people may change it. The MLflow experiment is
    created if it does not exist; its artifacts are in `storage` if `uri` is a database, which stores none. A reopened
    run keeps its parameters.
    """
    experiment_id = _experiment_id(uri, experiment, storage)
    if resume and has_run(uri, resume):
        connect(uri).update_run(resume, status="RUNNING")
        return resume
    return _start(uri, experiment_id, run_name, params, {**(tags or {})})


def start_or_resume_child(
    uri: str,
    experiment: str,
    parent_run_id: str,
    trial_id: str,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> str:
    """Reopen the run of a trial, found by its tag, or start it; return the run id."""
    condition = f"tags.`{PARENT}` = '{parent_run_id}' and tags.{TRIAL} = '{_quoted(trial_id)}'"
    tags = {**(tags or {}), PARENT: parent_run_id, TRIAL: trial_id}

    def find_or_start() -> str:
        experiment_id = _experiment_id(uri, experiment)
        found = _find(uri, experiment_id, condition)
        if found is None:
            return _start(uri, experiment_id, trial_id, params, tags)
        logged = connect(uri).get_run(found).data.params  # the server may have failed between run and parameters
        _log_params(uri, found, {name: value for name, value in params.items() if name not in logged})
        return found

    return retry_while_unreachable(uri, find_or_start)


def _experiment_id(uri: str, name: str, storage: Path | None = None) -> str:
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        folder = artifact_folder(uri, storage)
        location = (folder / name).as_uri() if folder is not None else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another process was faster
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise ValueError(
            f"the MLflow experiment {name!r} at {uri} is deleted; restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
        )
    return str(experiment.experiment_id)


def _find(uri: str, experiment_id: str, condition: str) -> str | None:
    runs = connect(uri).search_runs([experiment_id], condition, max_results=1, order_by=["attributes.start_time DESC"])
    if not runs:
        return None
    run_id = str(runs[0].info.run_id)
    connect(uri).update_run(run_id, status="RUNNING")
    return run_id


def _start(uri: str, experiment_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    all_tags = {"mlflow.source.name": Path(sys.argv[0]).name, **commit_tag(), **tags}
    run_id = str(connect(uri).create_run(experiment_id, tags=all_tags, run_name=name).info.run_id)
    _log_params(uri, run_id, params)
    return run_id


def _log_params(uri: str, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    entities = [Param(key, _shortened(value)) for key, value in params.items()]
    for start in range(0, len(entities), 100):  # MLflow takes 100 in a request
        connect(uri).log_batch(run_id, params=entities[start : start + 100])


def commit_tag() -> dict[str, str]:
    """Return MLflow's tag for the git commit of the working directory; {} outside a checkout."""
    try:
        out = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": out.strip()}


def _shortened(value: object) -> str:
    text = str(value)
    note = f" ... ({len(text)} characters, complete in the artifacts)"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - len(note)] + note


def _quoted(text: str) -> str:
    if "'" in text:
        raise ValueError(f"the name of a trial must not contain a single quote, got {text!r}")
    return text
