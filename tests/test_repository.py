"""The pages and the files around the packages: links, commands, examples, the map, dependencies."""

import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from arae_core.settings.tree import flatten
from pipelines.experiment.presets import PRESETS, preset
from pipelines.experiment.settings import Classification
from pipelines.sweeps.search_space import FOLDER, load_space
from tests.cluster.static.test_commands import unknown_flags

ROOT = Path(__file__).resolve().parents[1]
DOCS, MAP = ROOT / "docs", ROOT / "docs" / "architecture.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "cluster").glob("*.md"))]
EXTENDING = DOCS / "extending.md"
"""Its files and commands exist only in the copy that tests/docs makes."""
PACKAGES = ("arae_core", "pipelines", "tune_spaces", "benchmarks")
PLACEHOLDERS = {"SEED": "0", "T": "0.5", "NOISE": "0.1", "RATE": "0.001", "COOLDOWN": "0"}
"""Words of the results pages -> a value to check the command with. Paths may stay as they are."""


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in one of these languages."""
    pattern = rf"^```(?:{'|'.join(languages)})\n(.*?)^```"
    return re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def typed(page: Path) -> Iterator[str]:
    """Yield every command of a page: after "$ ", of a block without "$ ", and indented ones."""
    for block in blocks(page, "sh", "console"):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        yield from prompted or (line for line in lines if line and not line.startswith("#"))
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    yield from re.findall(
        r"^    ((?:[A-Z_]+=\S+ )?(?:make|python|\.venv/bin/python) .*?)(?:  +#.*)?$", text, re.MULTILINE
    )


def commands(program: str) -> list[list[str]]:
    """Return the arguments of every documented command of a program, also behind variables, pipes and `--`."""
    found = []
    for line in (line for page in PAGES if page != EXTENDING for line in typed(page)):
        line = re.sub(r"\[(--.*?|\.\.\.)\]", r" \1", line).replace("...", "")  # optional flags
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)]
        for i, word in enumerate(words):
            before = words[i - 1] if i else "|"
            if "=" not in word and Path(word).name == program and (before in ("|", "--", "&&") or "=" in before):
                end = next((j for j in range(i, len(words)) if words[j] in ("|", "&", "&&", ">", "<")), len(words))
                found.append(words[i + 1 : end])
    return list({shlex.join(words): words for words in found}.values())


def test_the_guides_show_every_command() -> None:
    scripts = {script for script, *_ in commands("python") if script.startswith("pipelines/")}
    assert scripts == {
        f"pipelines/{path.name}" for path in (ROOT / "pipelines").glob("*.py") if path.stem != "__init__"
    }
    assert {words[0] for words in commands("make")} >= {"setup", "tune", "test"}
    assert all(map(commands, ("mlflow", "ray", "curl")))


ARAE = [[f"pipelines/{command}.py", *words] for command, *words in commands("arae")]
"""`arae tune` is `python pipelines/tune.py`."""


@pytest.mark.parametrize("words", commands("python") + ARAE, ids=shlex.join)
def test_a_documented_command_is_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    script, *arguments = words
    if script == "-c":
        compile(arguments[0], "<documented>", "exec")
    elif script == "-m":
        assert importlib.util.find_spec(arguments[0])
    elif script.startswith(("pipelines/", "benchmarks/")):
        module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        assert (module.main([*arguments, "--print-config"]), capsys.readouterr().err) == (0, "")
    else:
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("words", commands("make"), ids=shlex.join)
def test_a_documented_target_exists(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert next(word for word in words if "=" not in word) in targets


@pytest.mark.parametrize("program", ["mlflow", "ray"])
def test_flags_of_other_programs_exist(program: str) -> None:
    for words in commands(program):
        assert unknown_flags(program, *words) == set(), shlex.join(words)


def test_documented_requests_match_the_packaged_model() -> None:
    from pipelines.tracking.package import signature
    from pipelines.tracking.packaged_model import TASKS

    schema = signature("text")
    for words in commands("curl"):
        body = json.loads(words[words.index("--data") + 1])
        assert set(body.get("params", {})) <= {parameter.name for parameter in schema.params}
        for row in body["dataframe_records"]:
            assert row["task"] in TASKS and set(row) <= set(schema.inputs.input_names())


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "api.md"], ids=title)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two iterations, on a small corpus. tests/docs runs the examples of docs/extending.md."""
    nouns, verbs = ("man", "dog", "cat", "boy", "girl"), ("sleeps", "runs", "eats", "sits", "waits")
    lines = [f"{a} {noun} {verb} ." for a in ("a", "the", "one") for noun in nouns for verb in verbs]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    examples = blocks(page, "python")
    assert examples
    for example in examples:
        short = re.sub(r"(iterations|until)=\d+", r"\1=2", example).replace("every=100", "every=1")
        assert short != example
        exec(compile(short, title(page), "exec"), {})


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_files_and_settings_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for pair in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text):
        target, _, anchor = "".join(pair).replace("\n", "").partition("#")
        if not target.startswith(("https://", "http://127.0.0.1:")):
            linked = (page.parent / target).resolve() if target else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
    for path in re.findall(rf"`((?:{'|'.join(PACKAGES)}|tests|docs|cluster)/\w[\w/.]+)`", text):
        assert (ROOT / path).exists() or page == EXTENDING, path
    settings = {name for each in PRESETS for name in flatten(preset(each))}
    sections = {name.partition(".")[0] for name in settings if "." in name}
    named = set(re.findall(rf"(?:`|--)((?:{'|'.join(sections)})\.\w+)(?![\w.(])", text))
    assert {name for name in named if not name.endswith((".py", ".md"))} <= settings


def test_the_readme_is_short_and_every_page_is_linked() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180
    for index, pages in (
        (DOCS / "README.md", DOCS.glob("*.md")),
        (DOCS / "results" / "README.md", DOCS.rglob("results/*.md")),
    ):
        links = re.findall(r"\]\(([\w./]+)", index.read_text())
        assert {page.name for page in pages} - {"README.md"} <= set(links)


def mapped() -> dict[str, str]:
    """Return path -> description of the map: a tree with two spaces a level, folders end with a slash."""
    (block,) = blocks(MAP, "text")
    found, folders = {}, [""]
    for line in block.splitlines():
        indent, name, description = re.fullmatch(r"((?:  )*)(\S+)  +(\S.*)", line).groups()  # type: ignore[union-attr]
        folders[len(indent) // 2 + 1 :] = [folders[len(indent) // 2] + name]
        found[folders[-1]] = description
    return found


def test_the_map_has_every_folder_of_the_packages_and_every_command() -> None:
    shown = mapped()
    assert all((ROOT / path).exists() for path in shown)
    files = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    listed = {path for path in files if str(path.parent) in ("pipelines", "tune_spaces") and path.stem != "__init__"}
    assert {f"{path.parent}/" for path in files} | {str(path) for path in listed} <= shown.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_documented_and_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"`{name}`" in (DOCS / "presets.md").read_text()
    for command in ("classify",) if isinstance(preset(name), Classification) else ("train", "tune"):
        assert importlib.import_module(f"pipelines.{command}").main(["--config", name, "--print-config"]) == 0
        assert f"name = {name}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))
def test_every_search_space_is_documented_and_loads(name: str) -> None:
    assert load_space(name, preset("grammar"))
    assert importlib.import_module(f"tune_spaces.{name}").__doc__
    assert f"| `{name}` |" in (DOCS / "sweeps.md").read_text()


@pytest.mark.parametrize("command", ["train", "tune"])
def test_without_the_packages_a_command_names_make_setup(command: str, tmp_path: Path) -> None:
    script = [sys.executable, "-S", "-E", str(ROOT / "pipelines" / f"{command}.py")]
    run = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (run.returncode, run.stdout) == (1, "")
    assert re.fullmatch(r"error: \w+ is not installed for .*`make setup`.*\n", run.stderr)
    assert not list(tmp_path.iterdir())


def test_dependencies_have_two_bounds_and_the_lock_satisfies_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in pins.items()}
    for line in sum(project["optional-dependencies"].values(), project["dependencies"]):
        requirement = Requirement(line)
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, line
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), line


def test_no_file_names_a_path_of_one_machine() -> None:
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("not a git checkout")
    for path in filter(Path.is_file, (ROOT / name for name in run.stdout.splitlines())):
        text = path.read_bytes().decode("utf-8", "ignore") if path.suffix not in (".png", ".gz") else ""
        found = re.search(r"(?<![\w.])/(?:home|Users|root|work|mnt|scratch|private)/\w", text)
        assert found is None, f"{path.relative_to(ROOT)}: {text[found.start() : found.end() + 40]!r}"
