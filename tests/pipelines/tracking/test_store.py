import socket
import time
from pathlib import Path

import pytest

from pipelines.tracking.store import open_tracking, unreachable


def test_sqlite_is_created_and_absolute_and_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_tracking("sqlite:///new/mlflow.db") == f"sqlite:///{tmp_path}/new/mlflow.db"
    assert (tmp_path / "new" / "mlflow.db").stat().st_size > 0
    assert capfd.readouterr().out == ""


def test_reading_does_not_create_a_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file, so no model has been registered there yet"):
        open_tracking(f"sqlite:///{tmp_path}/mlflow.db", create=False)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        open_tracking(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("my precious notes, which stay as they are")
    with pytest.raises(ValueError, match="not an sqlite database"):
        open_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_text().startswith("my precious notes")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", ""])
def test_the_file_store_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="must be sqlite:///FILE or a server's"):
        open_tracking(uri)


def test_nothing_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"http://127.0.0.1:{port}: no MLflow server answers there") as error:
        open_tracking(f"http://127.0.0.1:{port}")
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 5


def test_something_listens_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        open_tracking_uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ValueError, match="MLflow cannot use it") as error:
            open_tracking(open_tracking_uri)
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 7


def test_what_can_be_reached_from_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert unreachable(uri) == ""
    assert unreachable(uri) and "refused" in unreachable(uri)
    assert unreachable("sqlite:///mlflow.db") == unreachable("postgresql://nowhere.invalid/db") == ""
