"""The repository as a whole: what its documents say is so, and what its files ask for is there."""

import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.experiment.presets import PRESETS, preset
from pipelines.experiment.settings import Classification
from pipelines.sweeps.search_space import FOLDER, load_space

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("arae_core", "pipelines", "tune_spaces", "benchmarks")
DOCUMENTS = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "cluster/README.md", "cluster/SCALING.md", "cluster/TRANSCRIPT.md")
    ),
    *sorted((ROOT / "docs").glob("*.md")),
]
OTHERS_COMMANDS = {"mlflow": ["-m", "mlflow"], "ray": ["-m", "ray.scripts.scripts"]}
"""Programs of our engines -> how this Python runs them."""
PRIVATE = re.compile(r"(?<![\w.])/(?:home|Users|root|work|mnt|scratch|private)/\w")
"""Paths that exist on one machine alone."""


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced blocks of a document in one of these languages."""
    pattern = rf"^```(?:{'|'.join(languages)})\n(.*?)^```"
    return re.findall(pattern, document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def typed() -> Iterator[str]:
    """Every command that a document tells to type: lines after "$ ", or of a block without any such line."""
    for document in DOCUMENTS:
        for block in blocks(document, "sh", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            yield from prompted or (line for line in lines if line and not line.startswith("#"))
        yield from re.findall(r"^    ((?:make|\.venv/bin/python) .*?)(?:  +#.*)?$", document.read_text(), re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """The arguments of every command of that program, also behind variables, pipes and `ray job submit --`."""
    found = []
    for line in typed():
        words = shlex.split(line, comments=True)
        for i, word in enumerate(words):
            before = words[i - 1] if i else "|"
            if Path(word).name == program and (before in ("|", "--", "&&") or "=" in before):
                end = next((j for j in range(i, len(words)) if words[j] in ("|", "&", "&&", ">")), len(words))
                found.append(words[i + 1 : end])
    return found


def test_documents_tell_to_type_something() -> None:
    programs = {script for script, *_ in commands("python") if script.startswith("pipelines/")}
    assert programs == {f"pipelines/{path.name}" for path in (ROOT / "pipelines").glob("*.py")}
    assert {words[0] for words in commands("make")} >= {"setup", "tune", "test"}
    assert commands("mlflow")
    assert commands("ray")
    assert commands("curl")


@pytest.mark.parametrize("words", commands("python"), ids=shlex.join)
def test_a_documented_command_is_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    script, *arguments = words
    if script == "-m":
        assert importlib.util.find_spec(arguments[0])
        return
    if script == "-c":
        compile(arguments[0], "<documented>", "exec")
        return
    assert (ROOT / script).is_file()
    if script.startswith(("pipelines/", "benchmarks/")):
        module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        status = module.main([*arguments, "--print-config"])
        assert (status, capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize("words", commands("make"), ids=shlex.join)
def test_a_documented_target_exists(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert next(word for word in words if "=" not in word) in targets


@pytest.mark.parametrize("program", OTHERS_COMMANDS)
def test_the_engines_know_the_flags_documented(program: str) -> None:
    for words in commands(program):
        name = words[: next((i for i, word in enumerate(words) if word.startswith("-")), len(words))]
        ours = words[: words.index("--")] if "--" in words else words
        command = [sys.executable, *OTHERS_COMMANDS[program], *name, "--help"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert run.returncode == 0, run.stderr
        for flag in (word for word in ours if word.startswith("-")):
            assert re.search(rf"(?<![\w-]){flag}\b", run.stdout), f"{shlex.join(name)} has no {flag}"


def test_documented_requests_are_what_the_model_takes() -> None:
    from pipelines.tracking.package import signature
    from pipelines.tracking.packaged_model import TASKS

    asked = signature("text")
    for words in commands("curl"):
        body = json.loads(words[words.index("--data") + 1])
        assert set(body.get("params", {})) <= {parameter.name for parameter in asked.params}
        for row in body["dataframe_records"]:
            assert row["task"] in TASKS
            assert set(row) <= set(asked.inputs.input_names())


@pytest.mark.parametrize("program", blocks(ROOT / "README.md", "python"))
def test_documented_programs_run(program: str, tmp_path: Path) -> None:
    """With fewer iterations, on a corpus that is there."""
    nouns, verbs = ("man", "dog", "cat", "boy", "girl"), ("sleeps", "runs", "eats", "sits", "waits")
    lines = [f"{a} {noun} {verb} ." for a in ("a", "the", "one") for noun in nouns for verb in verbs]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    short = re.sub(r"until=[\d_]+, every=[\d_]+", "until=2, every=1", program)
    assert short != program
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", short]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def mapped() -> dict[str, str]:
    """Path -> its phrase, from the README's map: a tree of two blanks a level, folders with a slash."""
    block = next(block for block in blocks(ROOT / "README.md", "text") if "arae_core/" in block)
    found, folders = {}, [""]
    for line in block.splitlines():
        if entry := re.fullmatch(r"((?:  )*)(\S+)(?:  +(\S.*))?", line):
            depth, name, phrase = len(entry[1]) // 2, entry[2], entry[3] or ""
            folders[depth + 1 :] = [folders[depth] + name]
            found[folders[depth] + name] = phrase
    return found


def test_the_map_shows_every_file_of_the_packages_and_no_other() -> None:
    there = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    shown = {path for path in mapped() if path.endswith(".py") and path.startswith(PACKAGES)}
    assert shown == there
    assert all((ROOT / path).exists() for path in mapped())
    assert all(mapped().values()), "a file without its phrase"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text):
        path = "".join(target)
        assert path.startswith(("https://", "http://127.0.0.1:")) or (document.parent / path).exists(), path
    for path in re.findall(r"`((?:arae_core|pipelines|tune_spaces|benchmarks|tests|docs)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("classify",) if isinstance(preset(name), Classification) else ("train", "tune"):
        module = importlib.import_module(f"pipelines.{command}")
        assert module.main(["--config", name, "--print-config"]) == 0
        assert f"name = {name}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))
def test_every_space_is_loaded_and_explained(name: str) -> None:
    assert load_space(name, preset("grammar"))
    assert importlib.import_module(f"tune_spaces.{name}").__doc__
    assert name in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_python_without_the_packages_is_told_what_to_do(command: str, tmp_path: Path) -> None:
    script = [sys.executable, "-S", "-E", str(ROOT / "pipelines" / f"{command}.py")]
    run = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (run.returncode, run.stdout) == (1, "")
    assert re.fullmatch(r"error: \w+ is not installed for .*`make setup`.*\n", run.stderr)
    assert not list(tmp_path.iterdir())


@cache
def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def test_dependencies_have_bounds_on_both_sides() -> None:
    for requirement in requirements():
        assert {s.operator for s in requirement.specifier} == {">=", "<"}, str(requirement)


def test_the_lock_satisfies_the_project() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in requirements():
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}, locked at {version}"


def kept() -> list[Path]:
    """Every file that is in the repository, or would be with the next commit."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in run.stdout.splitlines()]
    if run.returncode:  # an archive without git holds nothing else, but for what was made since
        made = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "runs", "mlartifacts"}
        paths = [p for p in ROOT.rglob("*") if not {*made, "__pycache__"} & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_private_path() -> None:
    for path in kept():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found = PRIVATE.search(text)
        assert found is None, f"{path.relative_to(ROOT)}: {text[found.start() : found.end() + 40]!r}"
