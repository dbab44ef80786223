"""Defaults that depend on the environment: the Python command, the storage folder and the tracking URI."""

import os
import shutil
import sys
from pathlib import Path


def python() -> str:
    """Return the command that starts this Python: `python` if its environment is active, else its path."""
    found = shutil.which("python")
    if found and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        return "python"
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def program() -> list[str]:
    """Return the words that started the running command: `arae NAME`, or Python and the script."""
    return sys.argv[0].split() if sys.argv[0].startswith("arae ") else [python(), sys.argv[0]]


def command(name: str) -> list[str]:
    """Return the words that start another command, in the form of the running one."""
    return ["arae", name] if program()[0] == "arae" else [python(), f"pipelines/{name}.py"]


def in_ray_job() -> bool:
    """Return True in the working directory of a Ray job, which Ray deletes afterwards."""
    return "/runtime_resources/working_dir_files/" in Path.cwd().as_posix() + "/"


def default_storage() -> Path:
    """Return $ARAE_STORAGE, or ./runs (in a Ray job: ~/arae)."""
    return Path(os.environ.get("ARAE_STORAGE") or (Path.home() / "arae" if in_ray_job() else "runs"))


def default_tracking_uri() -> str:
    """Return $MLFLOW_TRACKING_URI, or an SQLite file in the working directory (in a Ray job: in ~/arae)."""
    folder = Path.home() / "arae" if in_ray_job() else Path.cwd()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"
