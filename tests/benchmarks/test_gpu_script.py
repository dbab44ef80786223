"""The script that measures everything on a GPU: without one, every command in it is read by its own command line."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The script with a program in Python's place that only notes what it was asked."""
    stand_in = folder / "python"
    stand_in.write_text(
        f'#!/usr/bin/env bash\necho "$*" >> {folder}/asked\necho "did $1"\n[ "$1" != "${{BROKEN:-}}" ]\n'
    )
    stand_in.chmod(0o755)
    variables = {"PATH": os.environ["PATH"], "PYTHON": str(stand_in)} | environment
    bash = shutil.which("bash")
    assert bash
    return subprocess.run([bash, str(SCRIPT), *arguments], env=variables, capture_output=True, text=True, check=False)


def test_every_part_is_a_command_that_its_command_line_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a b c\n")
    done = run(tmp_path, str(tmp_path / "out"), str(sentences), FLAGS="--precision bfloat16", PEER="other --fast")
    assert done.returncode == 0, done.stderr
    asked = [line.split(" ") for line in (tmp_path / "asked").read_text().splitlines()]
    assert {Path(words[0]).stem for words in asked} == {"throughput", "kernels", "floor", "scaling", "packing"}
    assert len(list((tmp_path / "out").glob("*.txt"))) == len(asked) >= 11
    for script, *words in asked:
        words = [word for word in words if word not in ("other", "--fast")]  # a command of two words, split above
        assert "bfloat16" in words
        given = [word if word != "--peer" else "--peer=other" for word in words]
        main = importlib.import_module(f"benchmarks.{Path(script).stem}").main
        assert main([*given, "--print-config"]) == 0, (script, capsys.readouterr().err)
        assert "precision = bfloat16" in capsys.readouterr().out


def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "out"), BROKEN="benchmarks/floor.py")
    assert done.returncode == 1
    assert "failed or over" in done.stdout
    assert (tmp_path / "out" / "packing.txt").read_text() == "did benchmarks/packing.py\n"


def test_it_wants_a_folder(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode != 0
    assert "usage: bash benchmarks/gpu.sh OUT" in done.stderr
