import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions

from pipelines.runtime.preflight import check_shared
from tests.pipelines.test_train import ROOT

PROGRAM = """
import os, socket, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from pipelines.runtime.preflight import check_shared

storage = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
try:
    cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    ray.init(log_to_driver=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        check_shared(storage, uri)
    try:
        check_shared(storage, uri)
    except ValueError as error:
        print(error)
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_a_server_that_a_node_cannot_reach(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**environment, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = "--tracking-uri http://127.0.0.1:.*: the node .* cannot reach it .*; name the server by an address that all"
    assert re.match(told, line), line


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, list[str]]]:
    """answered(missing, why): call check_shared with these answers of all nodes; return the files asked for by node."""
    nodes = (("here", True, 7.0), ("one", True, 1.0), ("gone", False, 7.0), ("head", True, 0.0), ("two", True, 3.0))
    names = {f"{i:056x}": name for i, (name, _, _) in enumerate(nodes)}

    def check(missing: str = "", why: str = "", error: Exception | None = None) -> dict[str, list[str]]:
        asked = dict[str, list[str]]()

        def of_node(scheduling_strategy: Any) -> Any:
            def ask(files: list[str], tracking_uri: str) -> Callable[[], tuple[list[str], str]]:
                asked[names[scheduling_strategy.node_id]] = files

                def answer() -> tuple[list[str], str]:
                    if error is not None:
                        raise error
                    return [file for file in files if missing and missing in file], why

                return answer

            return SimpleNamespace(remote=ask)

        found = [
            {"NodeID": number, "Alive": alive, "NodeManagerAddress": name, "Resources": {"CPU": cpus}}
            for number, (name, alive, cpus) in zip(names, nodes, strict=True)
        ]
        monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: f"{0:056x}"))
        monkeypatch.setattr(ray, "nodes", lambda: found)
        monkeypatch.setattr(ray, "remote", lambda **_: lambda look: SimpleNamespace(options=of_node))
        monkeypatch.setattr(ray, "get", lambda answer, timeout: answer())
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
        check_shared(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
        return asked

    return check


def test_every_other_node_with_a_cpu_is_asked(answered: Callable[..., dict[str, list[str]]], tmp_path: Path) -> None:
    """For a file in the storage and for the database. A node that has died since is ignored."""
    for error in (None, ray.exceptions.WorkerCrashedError()):
        asked = answered(error=error)
        assert list(asked) == ["one", "two"]
        for probe, database in asked.values():
            assert Path(probe).parent == tmp_path and database == str(tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"missing": ".seen-by-all-"}, "--storage .* is not the same folder on the node one: all nodes must see one"),
        ({"missing": "mlflow.db"}, "--tracking-uri sqlite:.*: the node one does not see that file; start an MLflow"),
        ({"why": "refused"}, r"--tracking-uri sqlite:.*: the node one cannot reach it \(refused\); name the server"),
    ],
)
def test_a_node_that_does_not_see_the_storage_or_mlflow_is_named(
    answer: dict[str, str], message: str, answered: Callable[..., dict[str, list[str]]]
) -> None:
    with pytest.raises(ValueError, match=message):
        answered(**answer)


def test_a_private_cluster_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_shared(tmp_path / "missing", "http://nowhere.invalid:1")
