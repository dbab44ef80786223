"""The servers that the tests of a cluster share, and small jobs for them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import Cluster, Postgres, Tracking

SMALL = [
    *("--data.size", "3000", "--samples", "100", "--precision", "float64"),
    *("--encoder.hidden", "32", "--decoder.hidden", "32", "--code.size", "32", "--generator.hidden", "32"),
    *("--critic.hidden", "32", "--critic.steps", "1", "--json"),
]
"""Of the built-in grammar, with parts so small that an iteration takes a few milliseconds."""


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder that every user may enter, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="arae-", dir="/tmp" if os.path.isdir("/tmp") else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared(short_folder: Path) -> Path:
    """The storage that all nodes see."""
    (short_folder / "shared").mkdir()
    return short_folder / "shared"


@pytest.fixture(scope="session")
def tracking(short_folder: Path) -> Iterator[Tracking]:
    """MLflow on PostgreSQL."""
    (short_folder / "postgres").mkdir()
    (short_folder / "mlflow").mkdir()
    database = Postgres(short_folder / "postgres")
    server = Tracking(short_folder / "mlflow", database.uri)
    yield server
    server.kill()
    database.end()


@pytest.fixture(scope="module")
def cluster(short_folder: Path, shared: Path, tracking: Tracking) -> Iterator[Cluster]:
    """A head and two nodes of two CPUs."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=short_folder))
    environment = {"ARAE_STORAGE": str(shared), "MLFLOW_TRACKING_URI": tracking.uri, "ARAE_DRAIN_SECONDS": "20"}
    made = Cluster(folder, environment)
    for _ in range(2):
        made.add()
    yield made
    made.end()
