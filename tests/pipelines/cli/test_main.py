"""The console command `arae`."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import generate
from pipelines.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]


def test_every_script_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(COMMANDS) == sorted(file.stem for file in (ROOT / "pipelines").glob("*.py"))
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert line.endswith(".") and len(line.split()) > 5


@pytest.mark.parametrize(("word", "hint"), [("tun", "did you mean tune?"), ("nonsense", "--help")])
def test_an_unknown_command_prints_one_line(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith(f"error: unknown command '{word}'") and hint in err


def test_a_command_gets_its_arguments(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["arae", "tune", "--trials", "0", "--print-config"])
    assert main() == 0
    assert "trials = 0\n" in capsys.readouterr().out
    assert main(["generate", "--help"]) == 0
    assert "usage: arae generate " in capsys.readouterr().out


def test_commands_to_resume_and_to_continue_name_the_console_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.experiment.environment import command

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["arae"])
    monkeypatch.setattr(generate, "generate", interrupted)
    assert main(["generate", "--model", "a b"]) == 130
    assert capsys.readouterr().err.endswith("to start again: arae generate --model 'a b'\n")
    assert command("tune") == ["arae", "tune"]


def test_help_is_quick_and_a_missing_package_is_named() -> None:
    """Packages of the extra are absent. In processor time, because other processes may run at once."""
    absent = ["ray", "mlflow", "datasets", "rich", "pandas", "matplotlib", "torch"]
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); from pipelines.cli.main import main; "
    program += "sys.exit(main())"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program, "--help"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    done = subprocess.run([sys.executable, "-c", program, "tune"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and 'pip install "arae[pipelines]"' in done.stderr
