import errno
import itertools
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from arae_core.settings.tree import flatten
from pipelines.cli.command_line import Arguments, Option, emit_json, parse, parse_options, run
from pipelines.cli.flags import spelled
from pipelines.experiment.environment import python
from pipelines.experiment.errors import FailedError
from pipelines.experiment.presets import PRESETS, preset
from pipelines.experiment.settings import Classification

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = (
    Option("run_name", str, "", "Name to continue under."),
    Option("trials", int, 6, "Trials to run: 100 % of them."),
    Option("scheduler", str, "asha", "Which trials to stop.", ("asha", "pbt")),
    Option("between", str, None, "Two sentences.", values=2),
)
OTHER_VALUES: dict[str, str] = {
    **dict.fromkeys(("encoder.kind", "decoder.kind"), "lstm"),
    **{"code.kind": "euclidean", "prior.kind": "gaussian", "critic.objective": "wgan-clip"},
    **{"data.source": "some/where", "data.limit": "100", "data.label": "tense", "name": "other"},
    **dict.fromkeys(("data.columns", "data.classes"), "first,second"),
    **{"device": "cpu", "precision": "bfloat16", "cuda_graphs": "off", "initialization": "released"},
    **{"encoder.pooling": "mean", "encoder.updates": "summed", "encoder.marker_ratio": "5.0"},
    **{"vocabulary.tokenizer": "bpe", "generator.output": "tanh", "decoder.conditioning": "separate"},
}
"""Values of settings for which `changed` finds none."""


def parsed(*words: str) -> Arguments:
    """Parse as train.py does, and presets of classification as classify.py does."""
    name = next((b for a, b in itertools.pairwise(words) if a == "--config"), "grammar")
    classification = isinstance(PRESETS.get(name, PRESETS["grammar"])(), Classification)
    return parse(words, "Do it.", OPTIONS, classification=classification)


def changed(name: str, value: Any) -> list[str]:
    """Return words that change the setting of the preset grammar."""
    flag = f"--{name if '.' in name else name.replace('_', '-')}"
    if name == "kind":
        return ["--kind", "image", "--data.source", "digits"]
    if name in OTHER_VALUES:
        return [flag, OTHER_VALUES[name]]
    if name.endswith("normalization"):
        return [flag, "none" if value == "layer" else "layer"]
    if name.endswith("optimizer"):
        return [flag, "sgd"]
    if isinstance(value, tuple):
        return [flag, "7,7"]
    if isinstance(value, bool):
        return [flag, spelled(not value)]
    return [flag, spelled(value + 1 if isinstance(value, int) else value / 2 or 0.25)]


@pytest.mark.parametrize("name", flatten(preset("grammar")))
def test_every_setting_has_a_flag(name: str) -> None:
    words = changed(name, flatten(preset("grammar"))[name])
    flat, before = flatten(parsed(*words).experiment), flatten(preset("grammar"))
    assert {key for key in flat if flat[key] != before[key]} == {
        word.removeprefix("--").replace("-", "_") for word in words[::2]
    }
    assert spelled(flat[name]) == words[1]
    assert type(flat[name]) is type(before[name])


@pytest.mark.parametrize("name", PRESETS)
def test_printed_settings_can_be_typed_again(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As lines and as JSON."""
    expected = flatten(preset(name))
    with pytest.raises(SystemExit) as stop:
        parsed("--config", name, "--print-config")
    assert stop.value.code == 0
    lines = [line.partition(" = ") for line in capsys.readouterr().out.splitlines()]
    words = [f"--{key}={value}" for key, _, value in lines if key in expected]
    assert len(words) == len(expected)
    assert parsed("--config", name, *words).experiment == preset(name)
    with pytest.raises(SystemExit):
        parsed("--config", name, "--print-config", "--json", "--trials", "3")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["config"], shown["trials"]) == (name, 3)
    assert {key: shown[key] for key in expected} == json.loads(json.dumps(expected))


def test_dashes_and_underscores_are_equivalent() -> None:
    a = parsed("--batch-size", "32", "--critic.learning_rate", "0.5", "--run-name", "x")
    b = parsed("--batch_size=32", "--critic.learning-rate=0.5", "--run_name=x")
    assert a == b
    assert a.given == {"batch_size": 32, "critic.learning_rate": 0.5}
    assert a.options.run_name == "x"


def test_values_with_dashes_commas_and_spaces() -> None:
    arguments = parsed(
        "--between", "a dog -- runs", "- no", "--encoder.hidden", "7, 7", "--vocabulary.lowercase", "FALSE"
    )
    assert arguments.options.between == ["a dog -- runs", "- no"]
    assert arguments.experiment.encoder.hidden == (7, 7)
    assert not arguments.experiment.vocabulary.lowercase
    assert parsed("--critic.hidden=").experiment.critic.hidden == ()


def test_defaults_of_options() -> None:
    options = parsed().options
    assert (options.trials, options.scheduler, options.run_name, options.between) == (6, "asha", "", None)
    assert (options.json, options.config) == (False, "grammar")
    assert isinstance(options.storage, Path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--critic.step", "5"], "unknown flag --critic.step; did you mean --critic.steps?"),
        (["--critic.step=5"], "unknown flag --critic.step; did you mean --critic.steps?"),
        (["--batchsize", "5"], "did you mean --batch-size?"),
        (["--trails", "5"], "did you mean --trials?"),
        (["--word-dropout", "5"], "did you mean --encoder.word_dropout or --decoder.word_dropout?"),
        (["--qqqqqq"], "unknown flag --qqqqqq"),
        (["--critic"], "unknown flag --critic"),
        (["--epoch", "5"], "did you mean --epochs?"),
        (["snli"], "unexpected argument 'snli'"),
        (["--critic.steps"], "--critic.steps: expected one argument"),
        (["--between", "a"], "--between: expected 2 arguments"),
        (["--critic.steps", "1.5"], "critic.steps must be an integer, got '1.5'"),
        (["--critic.penalty", "much"], "critic.penalty must be a number, got 'much'"),
        (["--critic.penalty", "nan"], "critic.penalty must be >= 0"),
        (["--code.noise", "-1"], "code.noise must be >= 0"),
        (["--encoder.learning_rate", "inf"], "encoder.learning_rate must be > 0 and finite, got inf"),
        (["--data.size", "1000000000000"], "data.size must be from 30 to "),
        (["--samples", "1000000000000"], "samples must be from 1 to "),
        (["--decoder.contrast", "1e300"], "decoder.contrast must be from 0 to "),
        (["--vocabulary.lowercase", "yes"], "vocabulary.lowercase must be true or false, got 'yes'"),
        (["--encoder.hidden", "3;3"], "encoder.hidden must be an integer, or several separated by commas, got '3;3'"),
        (["--critic.steps", "0"], "critic.steps must be >= 1, got 0"),
        (["--critic.objective", "gan"], "critic.objective must be one of wgan-gp, wgan-clip"),
        (["--workers", "65"], "batch_size must be >= workers (65), got 64"),
        (["--config", "snly"], "did you mean snli?"),
        (["--trials", "many"], "trials must be an integer, got 'many'"),
        (["--scheduler", "ash"], "scheduler must be one of asha, pbt, got 'ash'"),
    ],
)
def test_a_mistake_prints_one_line_and_exits_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda typed: parse(typed, "Do it.", OPTIONS), words) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("error: ")
    assert streams.err.count("\n") == 1
    assert message in streams.err


def test_help_shows_every_setting_and_the_defaults_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda typed: parse(typed, "Do it.", OPTIONS), ["--config", "paper-snli", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in flatten(preset("paper-snli")):
        assert f"--{name if '.' in name else name.replace('_', '-')} " in text
    assert re.search(r"--critic\.steps INT [^(]*\(default: 5\)", text)
    assert re.search(r"--encoder\.learning_rate NUMBER .{0,150}?\(default: 1\.0\)", text)
    assert "Trials to run: 100 % of them. (default: 6)" in text
    for flag in ("--tracking-uri", "--storage", "--json", "--print-config", "--config"):
        assert flag in text


def test_every_setting_has_a_short_help() -> None:
    from pipelines.cli.flags import setting_options

    for name in PRESETS:
        for _, option in setting_options(preset(name)):
            assert option.help.endswith("."), option.name
            assert len(option.help) < 240, option.name


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["--critic.clip", "0.5", "--epochs", "2", "--iterations", "5"], ["critic.clip", "epochs"]),
        (["--critic.objective", "none"], []),
        (["--prior.kind", "gaussian"], []),
        (["--critic.penalty", "3"], []),
        (["--critic.objective", "none", "--critic.penalty", "3"], ["critic.penalty"]),
    ],
)
def test_a_setting_without_effect_warns(
    words: list[str], warned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parsed(*words)
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("warning: ").split(" has no effect: ")[0] for line in lines] == warned


def test_a_command_without_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    options = (Option("model", str, None, "What to use.", required=True), Option("count", int, 10, "How many."))
    chosen = parse_options(["--model", "m", "--count", "3"], "Use it.", options)
    assert (chosen.model, chosen.count) == ("m", 3)
    assert run(lambda typed: parse_options(typed, "Use it.", options), []) == 2
    assert "--model is required" in capsys.readouterr().err
    assert run(lambda typed: parse_options(typed, "Use it.", options), ["--model", "m", "--print-config"]) == 0
    assert "model = m\ncount = 10\n" in capsys.readouterr().out
    assert run(lambda typed: parse_options(typed, "Use it.", options), ["--critic.steps", "3"]) == 2


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (ValueError("too\n   long"), 2, "error: too long\n"),
        (KeyboardInterrupt("python x.py --resume y"), 130, "to continue: python x.py --resume y\n"),
        (FailedError("nobody\ncame"), 1, "error: nobody came\n"),
        (RuntimeError("broken"), 1, "RuntimeError: broken\n"),
        (OSError(errno.EACCES, "Permission denied", "runs/data"), 2, "error: runs/data: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device", "m.db"), 1, "error: m.db: No space left on device\n"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "Too many open files\n"),
        (OSError(errno.EROFS, "Read-only file system", "runs"), 2, "error: runs: Read-only file system\n"),
        (SystemExit(3), 3, ""),
        (SystemExit("too bad"), 1, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_exit_statuses(error: BaseException | None, status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def body(words: Sequence[str] | None) -> None:
        if error is not None:
            raise error

    assert run(body, []) == status
    err = capsys.readouterr().err
    assert err.endswith(said) if said else err == ""


def test_after_ctrl_c_the_same_command_starts_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pipelines/train.py", "--name", "x y"])

    def body(words: Sequence[str] | None) -> None:
        raise KeyboardInterrupt

    assert run(body) == 130
    assert f"to start again: {python()} pipelines/train.py --name 'x y'\n" in capsys.readouterr().err


def test_json_is_the_last_line_and_valid(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"checkpoint": Path("a"), "metrics": {"x": float("nan"), "y": [1.5, float("inf")]}, "n": 3})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"checkpoint": "a", "metrics": {"x": None, "y": [1.5, None]}, "n": 3}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "command.py"
    path.write_text(
        "import sys\n"
        f"sys.path[0] = {str(ROOT)!r}\n"
        "from pipelines.cli.command_line import parse, run\n"
        "def body(words):\n"
        "    parse(words, 'Do it.')\n"
        "    print('line\\n' * 100_000)\n"
        "status = run(body)\n"
        "heavy = {'torch', 'ray', 'mlflow', 'datasets', 'numpy', 'pandas', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)\n"
    )
    return path


@pytest.mark.parametrize("flag", ["--help", "--print-config"])
def test_quick_and_light(script: Path, flag: str) -> None:
    """In processor time, because other processes may run at once."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, str(script), flag], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is needed")
@pytest.mark.parametrize(
    ("lines", "flags"),
    [("100_000", []), ("3", []), ("3", ["--print-config"])],
    ids=["more than the buffer", "less", "settings"],
)
def test_a_full_disk_is_one_line(script: Path, lines: str, flags: list[str]) -> None:
    script.write_text(script.read_text().replace("100_000", lines))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, str(script), *flags], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


def test_a_closed_pipe_is_no_crash(script: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()
