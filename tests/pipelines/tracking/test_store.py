import os
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

from pipelines.tracking import store
from pipelines.tracking.store import open_tracking, retry_while_unreachable, unreachable


def test_sqlite_is_created_and_absolute_and_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_tracking("sqlite:///new/mlflow.db") == f"sqlite:///{tmp_path}/new/mlflow.db"
    assert (tmp_path / "new" / "mlflow.db").stat().st_size > 0
    assert capfd.readouterr().out == ""


def test_reading_does_not_create_a_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist or is empty, so no model is"):
        open_tracking(f"sqlite:///{tmp_path}/mlflow.db", create=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(ValueError, match="does not exist or is empty, so no model is"):
        open_tracking(f"sqlite:///{tmp_path}/mlflow.db", create=False)
    assert not (tmp_path / "mlflow.db").stat().st_size


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        open_tracking(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("my precious notes, which stay as they are")
    with pytest.raises(ValueError, match="not an sqlite database"):
        open_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_text().startswith("my precious notes")


def test_a_database_that_is_damaged(tmp_path: Path, empty_database: Path) -> None:
    for length in (200, 5000):
        (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"mlflow.db: this database is damaged \(.*malformed\)$"):
            open_tracking(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_database_of_another_program_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a #1?" / "places.db"  # a name that an address would have to quote
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE places (url TEXT)")
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"this database belongs to another program \(its tables: places\)"):
        open_tracking(f"sqlite:///{file}")
    assert file.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_what_is_read_only(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "mlflow.db"
    open_tracking(f"sqlite:///{file}")
    for path, mode, message in (
        (file.parent, 0o555, "its folder cannot be written to"),
        (file, 0o444, r"cannot be written \(Permission denied\)"),
    ):
        path.chmod(mode)
        with pytest.raises(ValueError, match=message):
            open_tracking(f"sqlite:///{file}")
        path.chmod(0o755)


def test_a_database_without_its_driver() -> None:
    """MLflow brings none along."""
    with pytest.raises(ValueError, match=f"{sys.executable} lacks the module MySQLdb") as error:
        open_tracking("mysql://me@127.0.0.1/mlflow")
    assert "\n" not in str(error.value) and "make setup" not in str(error.value)


@pytest.mark.parametrize("uri", ["./mlruns", "foo://127.0.0.1", "file:///tmp/mlruns", ""])
def test_the_file_store_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="must be sqlite:///FILE or a server's"):
        open_tracking(uri)


def test_nothing_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and kept, so that nobody else listens there
        port = closed.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(ValueError, match=f"http://127.0.0.1:{port}: no MLflow server answers there") as error:
            open_tracking(f"http://127.0.0.1:{port}")
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 15


def test_something_listens_and_never_answers() -> None:
    """Four seconds' patience, where a request may otherwise take twenty, three times over."""
    import mlflow  # noqa: F401  # whose import takes seconds, too

    with socket.create_server(("127.0.0.1", 0)) as mute:
        open_tracking_uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ValueError, match="MLflow cannot use it") as error:
            open_tracking(open_tracking_uri)
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 18


def test_what_can_be_reached_from_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert unreachable(f"http://127.0.0.1:{server.getsockname()[1]}") == ""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and kept, so that nobody else listens there
        assert "refused" in unreachable(f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert unreachable("sqlite:///mlflow.db") == unreachable("postgresql://nowhere.invalid/db") == ""


AWAY = MlflowException("refused\nand more", error_code=INTERNAL_ERROR)
WRONG = MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST)
SERVER = "http://nowhere.invalid:1"


@pytest.mark.parametrize(
    ("uri", "error", "times", "calls"),
    [
        (SERVER, AWAY, 3, 4),
        (SERVER, ConnectionError("no route"), 3, 4),
        (SERVER, AWAY, 10**6, 13),
        (SERVER, WRONG, 3, 1),
        ("sqlite:///a.db", AWAY, 3, 1),
    ],
    ids=["comes back", "comes back to the network", "never comes back", "refuses", "a file"],
)
def test_a_server_that_is_away_is_waited_for_and_nothing_else(
    uri: str,
    error: Exception,
    times: int,
    calls: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For two minutes; here each try takes nine seconds and the pause behind it one."""
    clock, made = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))

    def call() -> str:
        made.append(clock[0])
        clock[0] += 9
        if len(made) <= times:
            raise error
        return "there"

    if calls == times + 1:
        assert retry_while_unreachable(uri, call) == "there"
        assert capsys.readouterr().err.count("warning: MLflow at") == 1
    else:
        with pytest.raises(type(error), match=str(error).splitlines()[0]):
            retry_while_unreachable(uri, call)
    assert len(made) == calls


def test_impatience_ends_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every request of a training would have four seconds and one attempt."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with store._impatient():
        assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == ("4", "0")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77" and "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
