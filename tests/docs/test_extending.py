"""docs/extending.md, followed to the letter in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`(arae_core/\S+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S)
ENTRIES = re.findall(r"^In `(\w+)` of `(arae_core/\S+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the files and the entries of the page, and nothing else."""
    copy = tmp_path_factory.mktemp("extended")
    for package in ("arae_core", "pipelines", "tune_spaces"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in FILES:
        assert not (copy / name).exists()
        (copy / name).write_text(content, encoding="utf-8")
    for room, name, entry in ENTRIES:
        text = (copy / name).read_text(encoding="utf-8")
        assert text.count(f"{room}: Room = {{\n") == 1
        (copy / name).write_text(
            text.replace(f"{room}: Room = {{\n", f"{room}: Room = {{\n    {entry}"), encoding="utf-8"
        )
    return copy


def run(copy: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_page_adds_one_of_each() -> None:
    assert [Path(name).parent.name for name, _ in FILES] == ["objectives", "priors", "codes", "codecs"]
    assert [(room, Path(name).parent.name) for room, name, _ in ENTRIES] == [
        ("OBJECTIVES", "objectives"),
        ("PRIORS", "priors"),
        ("CODES", "codes"),
        ("CODECS", "codecs"),
    ]


def test_the_new_variants_train_sample_resume_and_run_on_two_workers(extended: Path) -> None:
    run(extended, str(ROOT / "tests" / "docs" / "use_extensions.py"))


def test_the_commands_of_the_page_accept_the_new_names(extended: Path) -> None:
    commands = re.findall(r"^python (pipelines/train\.py .*)$", PAGE, re.M)
    assert len(commands) == 4
    for command in commands:
        assert command.split()[-1] in run(extended, *command.split(), "--print-config")
    assert "energy" in run(extended, "pipelines/train.py", "--print-config", "--critic.objective", "energy")
