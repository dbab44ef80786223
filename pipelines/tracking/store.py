"""Where MLflow keeps things: a client for a tracking URI, and whether anything usable answers there."""

import logging
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {  # a tracker that hangs must not hold up the training; whoever knows better sets these themselves
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
SERVERS = ("http", "https")
ELSEWHERE = (*SERVERS, "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")
"""Schemes that MLflow knows of stores that are no file here."""
PATIENCE = 120.0
"""Seconds that a server may be away where going on without it would lose something."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""As MLflow knows them."""
T = TypeVar("T")


@cache
def connect(uri: str) -> "MlflowClient":
    """A client of the tracking store and the registry at `uri`, with MLflow's chatter turned down to warnings."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri, registry_uri=uri)


def retry_while_unreachable(uri: str, call: Callable[[], T]) -> T:
    """call(), for up to PATIENCE seconds again and again while the server behind `uri` is away, as in a restart.

    Whatever a database in a file cannot do is raised at once.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    end, told = time.monotonic() + PATIENCE, False
    while True:
        try:
            return call()
        except (MlflowException, RequestException, ConnectionError) as error:
            codes = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # a refused connection is the first
            away = not isinstance(error, MlflowException) or error.error_code in codes
            if not away or sqlite_file(uri) is not None or time.monotonic() > end:
                raise
            if not told:
                why = first_line(error)
                print(f"warning: MLflow at {uri} fails ({why}); trying again for {PATIENCE:g} s", file=sys.stderr)
            told = True
        time.sleep(1)


def open_tracking(uri: str, *, create: bool = True) -> str:
    """`uri` made absolute, once a store is known to answer there.

    sqlite:///FILE is created where it is missing (unless not `create`); a server gets one attempt of a few seconds.
    Raises ValueError, one line, where nothing usable answers: call it before anything expensive.
    """
    file = sqlite_file(uri)
    if file is not None:
        _check_sqlite(file, create)
        uri = f"sqlite:///{file}"
    elif urlsplit(uri).scheme.partition("+")[0] not in ELSEWHERE:  # sqlite without a file is gone with the process
        raise ValueError(f"--tracking-uri must be sqlite:///FILE or a server's http://HOST:PORT, got {uri!r}")
    else:
        _check_answers(uri)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _impatient():
            connect(uri).search_experiments(max_results=1)
    except ModuleNotFoundError as error:  # a database's driver, which MLflow does not bring along
        raise ValueError(
            f"--tracking-uri {uri}: {sys.executable} has no module {error.name} to reach this database; install a "
            "driver for it, or start `mlflow server` where there is one and name its http://HOST:PORT"
        ) from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise ValueError(f"--tracking-uri {uri}: MLflow cannot use it ({first_line(error)})") from error
    return uri


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of the file behind sqlite:///FILE, or None for any other kind of store."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


def artifact_folder(uri: str, storage: Path | None) -> Path | None:
    """Where the files of runs lie: beside a database in a file, in the storage with any other, which all nodes see.

    None where MLflow knows: a server has a place of its own. With a database it would take the working directory's.
    """
    file, dialect = sqlite_file(uri), urlsplit(uri).scheme.partition("+")[0]
    if file is not None:
        return file.parent / "mlartifacts"
    return storage.absolute() / "mlartifacts" if storage and dialect in DATABASES else None


def _check_sqlite(file: Path, create: bool) -> None:
    if not create and not (file.exists() and file.stat().st_size):
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: no such file, or an empty one, so no model has been registered there yet"
        )
    try:
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as stream:  # sqlite takes an empty file for a new database
            stream.seek(0)
            start = stream.read(16)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: cannot be written ({reason}); name another file or a server"
        ) from error
    if not os.access(file.parent, os.W_OK):  # sqlite keeps its journal beside the file
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: its folder cannot be written to; name another file or a server"
        )
    if start not in (b"", b"SQLite format 3\0"):
        raise ValueError(f"--tracking-uri sqlite:///{file}: this file is not an sqlite database")
    if start:
        _check_tables(file)


def _check_tables(file: Path) -> None:
    """Raise ValueError for a damaged database and for another program's, to which MLflow would add its tables."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except sqlite3.OperationalError:  # locked, by somebody who writes: MLflow waits
        return
    except sqlite3.DatabaseError as error:
        raise ValueError(f"--tracking-uri sqlite:///{file}: this database is damaged ({error})") from error
    if tables and "experiments" not in tables:
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: this database is another program's (it has {', '.join(tables[:3])}); "
            "name another file"
        )


def _check_answers(uri: str) -> None:
    """Whether anything listens there: quicker than MLflow, whose client retries refused connections."""
    if why := unreachable(uri):
        raise ValueError(
            f"--tracking-uri {uri}: no MLflow server answers there ({why}); start one with `mlflow server`, "
            "or use --tracking-uri sqlite:///mlflow.db"
        )


def unreachable(uri: str) -> str:
    """Why nothing can be reached at the address of a server from this machine; empty where something can."""
    parts = urlsplit(uri)
    if parts.scheme not in SERVERS:
        return ""  # another database, databricks: MLflow knows
    try:
        address = (parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme])
        socket.create_connection(address, timeout=3).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


@contextmanager
def _impatient() -> Iterator[None]:
    """One attempt of four seconds for every request to a server, while this lasts."""
    changed = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
