"""Checks that all nodes of a cluster see the same storage and MLflow, before anything starts there."""

import os
import tempfile
from pathlib import Path
from typing import Any

from pipelines.runtime.cluster import attached

SECONDS_TO_ANSWER = 120.0
"""A node's first task may wait for its packages."""


def check_shared(storage: Path, tracking_uri: str) -> None:
    """Raise ValueError unless every node of the running cluster sees `storage`, and reaches MLflow's server or file.

    Otherwise trials would fail after minutes, and trainings would lose samples. Does nothing in a private cluster.
    """
    if not attached():
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pipelines.tracking.store import sqlite_file

    here = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    others = [n for n in nodes if n["Alive"] and n["NodeID"] != here and n["Resources"].get("CPU", 0) >= 1]
    with tempfile.NamedTemporaryFile(dir=storage, prefix=".seen-by-all-") as probe:
        files = [probe.name, *(str(file) for file in (sqlite_file(tracking_uri),) if file)]
        remote_look: Any = ray.remote(num_cpus=0, max_retries=0)(look)
        answers = {}
        for node in others:
            there = remote_look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            answers[there.remote(files, tracking_uri)] = node
        for answer, node in answers.items():
            try:
                missing, why = ray.get(answer, timeout=SECONDS_TO_ANSWER)
            except ray.exceptions.RayError:  # gone since, or busy: Ray will find out by itself
                continue
            if probe.name in missing:
                raise ValueError(
                    f"--storage {storage} is not the same folder on the node {node['NodeManagerAddress']}: all nodes "
                    "must see one folder at the same path; name a shared folder ($ARAE_STORAGE)"
                )
            if missing:
                raise ValueError(
                    f"--tracking-uri {tracking_uri}: the node {node['NodeManagerAddress']} does not see that file; "
                    "start an MLflow server and name its http://HOST:PORT ($MLFLOW_TRACKING_URI)"
                )
            if why:
                raise ValueError(
                    f"--tracking-uri {tracking_uri}: the node {node['NodeManagerAddress']} cannot reach it ({why}); "
                    "name the server by an address that all nodes can reach ($MLFLOW_TRACKING_URI)"
                )


def look(files: list[str], tracking_uri: str) -> tuple[list[str], str]:
    """Return the files that this node does not see, and why it cannot reach the MLflow server ("" if it can)."""
    from pipelines.tracking.store import unreachable

    return [file for file in files if not os.path.exists(file)], unreachable(tracking_uri)
