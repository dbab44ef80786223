"""Whether all nodes of a cluster see what they have to share, before anything starts there."""

import os
import tempfile
from pathlib import Path
from typing import Any

from pipelines.runtime.cluster import attached

SECONDS_TO_ANSWER = 120.0
"""A node's first task may have to wait for its packages."""


def check_shared(storage: Path, tracking_uri: str) -> None:
    """Raise ValueError unless every node of the cluster that runs sees the storage of this one, and reaches MLflow's
    server or sees its database's file. Without it a trial would fail after minutes, and a training would lose samples.
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
        look: Any = ray.remote(num_cpus=0, max_retries=0)(_look)
        asked = {}
        for node in others:
            there = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            asked[there.remote(files, tracking_uri)] = node
        for answer, node in asked.items():
            try:
                missing, why = ray.get(answer, timeout=SECONDS_TO_ANSWER)
            except ray.exceptions.RayError:  # gone since, or busy: whether it fits is Ray's to find out
                continue
            if probe.name in missing:
                raise ValueError(
                    f"--storage {storage} is not the same folder on the node {node['NodeManagerAddress']}: all nodes "
                    "must see one, at the same path; name a folder that they share ($ARAE_STORAGE)"
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


def _look(files: list[str], tracking_uri: str) -> tuple[list[str], str]:
    """Those of the files that are not here, and why the server cannot be reached from here, if it cannot."""
    from pipelines.tracking.store import unreachable

    return [file for file in files if not os.path.exists(file)], unreachable(tracking_uri)
