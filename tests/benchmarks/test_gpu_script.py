"""The script of all GPU measurements, with a program in Python's place that only records its arguments."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.harness import ROOT


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script. The program in Python's place fails for the benchmark named by BROKEN."""
    fake = folder / "python"
    fake.write_text(f'#!/usr/bin/env bash\necho "$*" >> {folder}/calls\necho "did $1"\n[ "$1" != "${{BROKEN:-}}" ]\n')
    fake.chmod(0o755)
    variables = {"PATH": os.environ["PATH"], "PYTHON": str(fake)} | environment
    command = [shutil.which("bash") or "bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_every_command_in_it_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a b c\n")
    done = run(tmp_path, str(tmp_path / "out"), str(sentences), FLAGS="--precision bfloat16", PEER="other --fast")
    assert done.returncode == 0, done.stderr
    calls = [line.split(" ") for line in (tmp_path / "calls").read_text().splitlines()]
    assert {Path(words[0]).stem for words in calls} == {"throughput", "kernels", "floor", "scaling", "packing"}
    assert len(list((tmp_path / "out").glob("*.txt"))) == len(calls) >= 11
    for script, *words in calls:
        # The peer's command is one argument of two words, which were split above.
        given = [word if word != "--peer" else "--peer=other" for word in words if word not in ("other", "--fast")]
        main = importlib.import_module(f"benchmarks.{Path(script).stem}").main
        assert main([*given, "--print-config"]) == 0, (script, capsys.readouterr().err)
        assert "precision = bfloat16" in capsys.readouterr().out


def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    done = run(tmp_path, str(tmp_path / "out"), BROKEN="benchmarks/floor.py")
    assert done.returncode == 1 and "failed" in done.stdout
    assert (tmp_path / "out" / "packing.txt").read_text() == "did benchmarks/packing.py\n"
    without_folder = run(tmp_path)
    assert without_folder.returncode != 0 and "usage: bash benchmarks/gpu.sh OUT" in without_folder.stderr
