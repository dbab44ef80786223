"""Servers that the cluster tests share, and flags of small jobs."""

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
"""Flags of a model of the built-in grammar that takes a few milliseconds an iteration."""


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder that every user may enter, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="arae-", dir="/tmp" if Path("/tmp").is_dir() else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared(short_folder: Path) -> Path:
    """The storage folder that all nodes share."""
    (short_folder / "shared").mkdir()
    return short_folder / "shared"


@pytest.fixture(scope="session")
def tracking(short_folder: Path) -> Iterator[Tracking]:
    """An MLflow server with PostgreSQL."""
    (short_folder / "postgres").mkdir()
    (short_folder / "mlflow").mkdir()
    database = Postgres(short_folder / "postgres")
    server = Tracking(short_folder / "mlflow", database.uri)
    yield server
    server.kill()
    database.end()


@pytest.fixture(scope="module")
def cluster(short_folder: Path, shared: Path, tracking: Tracking) -> Iterator[Cluster]:
    """A head with one CPU and two nodes with two."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=short_folder))
    environment = {"ARAE_STORAGE": str(shared), "MLFLOW_TRACKING_URI": tracking.uri, "ARAE_DRAIN_SECONDS": "20"}
    made = Cluster(folder, environment)
    for _ in range(2):
        made.add()
    yield made
    made.end()
