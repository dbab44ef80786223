"""MLflow stores: a client for a tracking URI, and checks that the store is usable."""

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

ENVIRONMENT = {  # defaults that keep an unreachable server from blocking the training
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
SERVERS = ("http", "https")
ELSEWHERE = (*SERVERS, "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")
"""URI schemes of stores that are not a local file."""
PATIENCE = 120.0
"""Seconds to wait for an unreachable server when something would be lost otherwise."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Databases that MLflow supports."""
T = TypeVar("T")


@cache
def connect(uri: str) -> "MlflowClient":
    """Return a client of the tracking store and registry at `uri`; MLflow logs warnings only."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri, registry_uri=uri)


def retry_while_unreachable(uri: str, call: Callable[[], T]) -> T:
    """Return call(), retried for up to PATIENCE seconds while the server at `uri` cannot be reached.

    Errors of a database in a file are raised at once.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    end, warned = time.monotonic() + PATIENCE, False
    while True:
        try:
            return call()
        except (MlflowException, RequestException, ConnectionError) as error:
            codes = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # the first for a refused connection
            is_unreachable = not isinstance(error, MlflowException) or error.error_code in codes
            if not is_unreachable or sqlite_file(uri) is not None or time.monotonic() > end:
                raise
            if not warned:
                why = first_line(error)
                print(f"warning: MLflow at {uri} fails ({why}); retrying for {PATIENCE:g} s", file=sys.stderr)
            warned = True
        time.sleep(1)


def open_tracking(uri: str, *, create: bool = True) -> str:
    """Check that the store at `uri` is usable, and return the URI with an absolute path.

    create: create sqlite:///FILE if it does not exist. A server gets one attempt of a few seconds. Raise ValueError,
    one line, if the store is not usable; call this before anything expensive.
    """
    file = sqlite_file(uri)
    if file is not None:
        _check_sqlite(file, create)
        uri = f"sqlite:///{file}"
    elif urlsplit(uri).scheme.partition("+")[0] not in ELSEWHERE:  # sqlite without a file ends with the process
        raise ValueError(f"--tracking-uri must be sqlite:///FILE or a server's http://HOST:PORT, got {uri!r}")
    else:
        _check_answers(uri)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _impatient():
            connect(uri).search_experiments(max_results=1)
    except ModuleNotFoundError as error:  # MLflow comes without database drivers
        raise ValueError(
            f"--tracking-uri {uri}: {sys.executable} lacks the module {error.name}, the driver of this database; "
            "install it, or use the http://HOST:PORT of an `mlflow server` on a machine that has it"
        ) from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise ValueError(f"--tracking-uri {uri}: MLflow cannot use it ({first_line(error)})") from error
    return uri


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of the file of sqlite:///FILE, or None for another kind of store."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


def artifact_folder(uri: str, storage: Path | None) -> Path | None:
    """Return the folder for artifacts: beside a database in a file, or in the storage, which all nodes share.

    None: the server decides. With a database, MLflow itself would use the working directory.
    """
    file, dialect = sqlite_file(uri), urlsplit(uri).scheme.partition("+")[0]
    if file is not None:
        return file.parent / "mlartifacts"
    return storage.absolute() / "mlartifacts" if storage and dialect in DATABASES else None


def _check_sqlite(file: Path, create: bool) -> None:
    if not create and not (file.exists() and file.stat().st_size):
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: the file does not exist or is empty, so no model is registered there"
        )
    try:
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as stream:  # sqlite accepts an empty file as a new database
            stream.seek(0)
            start = stream.read(16)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: cannot be written ({reason}); use another file or a server"
        ) from error
    if not os.access(file.parent, os.W_OK):  # sqlite writes its journal there
        raise ValueError(f"--tracking-uri sqlite:///{file}: its folder is not writable; use another file or a server")
    if start not in (b"", b"SQLite format 3\0"):
        raise ValueError(f"--tracking-uri sqlite:///{file}: not an sqlite database")
    if start:
        _check_tables(file)


def _check_tables(file: Path) -> None:
    """Raise ValueError for a damaged database, and for one of another program, which MLflow would add tables to."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except sqlite3.OperationalError:  # locked by a writer; MLflow waits
        return
    except sqlite3.DatabaseError as error:
        raise ValueError(f"--tracking-uri sqlite:///{file}: this database is damaged ({error})") from error
    if tables and "experiments" not in tables:
        raise ValueError(
            f"--tracking-uri sqlite:///{file}: this database belongs to another program (its tables: "
            f"{', '.join(tables[:3])}); use another file"
        )


def _check_answers(uri: str) -> None:
    """Raise ValueError if nothing listens at `uri`. Faster than MLflow, whose client retries refused connections."""
    if why := unreachable(uri):
        raise ValueError(
            f"--tracking-uri {uri}: no MLflow server answers there ({why}); start one with `mlflow server`, "
            "or use --tracking-uri sqlite:///mlflow.db"
        )


def unreachable(uri: str) -> str:
    """Return why the server at `uri` cannot be reached from this machine, or ""."""
    parts = urlsplit(uri)
    if parts.scheme not in SERVERS:
        return ""  # a database or databricks: left to MLflow
    try:
        address = (parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme])
        socket.create_connection(address, timeout=3).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


@contextmanager
def _impatient() -> Iterator[None]:
    """Limit requests to a server to one attempt of four seconds in the block."""
    changed = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
