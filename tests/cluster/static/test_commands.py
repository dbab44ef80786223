"""Commands in the manifests, the scripts and cluster/README.md are understood by the programs that they name."""

import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.static.manifests import CLUSTER, COMPOSE, KUBERNETES, LAUNCHER, ROOT, Data, load, rendered, snippets
from tests.cluster.static.test_image import stages

README = (CLUSTER / "README.md").read_text()
MADE = ("cluster/.env", "cluster/overlay.local", "cluster/ray-cluster.local.yaml")
"""What the README's commands make."""


def typed() -> list[str]:
    """The lines that cluster/README.md tells to type."""
    return [line for language, block in snippets(README) if language == "sh" for line in block.splitlines()]


def of_the_launcher(what: str) -> list[str]:
    """Its command lines, of the keys with that in their names."""
    return [line for key, lines in load(LAUNCHER)[0].items() if what in key for line in lines]


def started() -> Iterator[str]:
    """Command lines in manifests and scripts."""
    for path in KUBERNETES:
        for document in load(path):
            if "entrypoint" in document.get("spec", {}):
                yield document["spec"]["entrypoint"]
            for parameters in re.findall(r"'rayStartParams': (\{.*?\})", str(document)):
                yield "ray start " + " ".join(f"--{name}" for name in re.findall(r"'([\w-]+)':", parameters))
    for service in load(COMPOSE)[0]["services"].values():
        if "command" in service:
            script, *arguments = service["command"]
            yield shlex.join(["ray", "start", *arguments] if script.endswith("/node.sh") else [script, *arguments])
    yield from of_the_launcher("start")
    for script in CLUSTER.glob("*.sh"):
        yield from script.read_text().replace("\\\n", " ").splitlines()


def commands(program: str) -> list[list[str]]:
    """The arguments of that program wherever it is run: at the start, behind variables, another command or `--`."""
    found = []
    for line in [*typed(), *started()]:
        words = _words(line)
        for i, word in enumerate(words):
            before = words[i - 1] if i else ";"
            if word == program and (before in ("exec", "head", "--") or re.search(r"^[;&|()]+$|=|\.sh$", before)):
                rest = words[i + 1 :]
                end = next((j for j, other in enumerate(rest) if re.fullmatch(r"[;&|()<>]+", other)), len(rest))
                found.append(rest[:end])
    return found


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a line of a script whose quotation goes on
        return []


@cache
def group(program: str) -> Any:
    if program == "ray":
        return importlib.import_module("ray.scripts.scripts").cli
    return importlib.import_module("mlflow.cli").cli


def flags(program: str, words: list[str]) -> tuple[set[str], set[str]]:
    """The flags of a command line, and those that the command knows."""
    command = group(program)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    ours = words[: words.index("--")] if "--" in words else words
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    return {word.split("=")[0] for word in ours if re.match(r"--?[a-z]", word)}, known


@pytest.mark.parametrize("words", commands("ray"), ids=shlex.join)
def test_ray_knows_the_flags(words: list[str]) -> None:
    used, known = flags("ray", words)
    assert used <= known


@pytest.mark.parametrize("words", commands("mlflow"), ids=shlex.join)
def test_mlflow_knows_the_flags(words: list[str]) -> None:
    used, known = flags("mlflow", words)
    assert used <= known


def test_an_unknown_flag_would_be_seen() -> None:
    used, known = flags("ray", ["start", "--heads", "--num-cpus=0"])
    assert used - known == {"--heads"}
    assert {"start", "stop", "job", "up", "down", "dashboard", "attach", "drain-node"} <= {
        x[0] for x in commands("ray")
    }
    assert commands("mlflow")[0][0] == "server"


@pytest.mark.parametrize("words", commands("python"), ids=shlex.join)
def test_our_commands_are_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    script, *arguments = words
    if script == "-c":
        return
    assert (ROOT / script).is_file()
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    assert (module.main([*arguments, "--print-config"]), capsys.readouterr().err) == (0, "")


def test_our_commands_are_there_to_be_understood() -> None:
    scripts = [words[0] for words in commands("python")]
    assert scripts.count("pipelines/tune.py") >= 4
    assert "pipelines/train.py" in scripts


@pytest.mark.parametrize("line", [*typed(), *of_the_launcher("initialization_commands"), *of_the_launcher("start")])
def test_a_line_is_shell(line: str) -> None:
    run = subprocess.run(["bash", "-n"], input=line, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr


def test_files_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"(?<![\w/.])cluster/[\w./-]*\w", "\n".join(typed())))
    assert {"cluster/compose.yaml", "cluster/Dockerfile", "cluster/ray-cluster.yaml"} <= named
    for name in named:
        assert name.startswith(MADE) or (ROOT / name).exists(), name
    for name in re.findall(r"`([\w.-]+\.(?:sh|yaml)|kubernetes/)`", README):
        assert list(CLUSTER.rglob(name.rstrip("/"))), name
    for anchor in re.findall(r"\]\(#([\w-]+)\)", README):
        titles = [
            re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)", README, re.M)
        ]
        assert anchor in titles


def test_images_are_built_under_the_names_that_are_run() -> None:
    run = {service["image"] for service in load(COMPOSE)[0]["services"].values() if "build" in service}
    run |= {load(LAUNCHER)[0]["docker"][name].rpartition("/")[2] for name in ("head_image", "worker_image")}
    built = set()
    for line in typed():
        if line.startswith("docker build"):
            words = shlex.split(line)
            assert words[words.index("--target") + 1] in stages()
            built.add(words[words.index("--tag") + 1].rpartition("/")[2])
    pushed = {line.rpartition("/")[2] for line in typed() if line.startswith("docker push")}
    assert built == pushed
    assert run <= built
    if shutil.which("kubectl"):
        documents = str(rendered())
        assert set(re.findall(r"'image': '(arae[^']*)'", documents)) <= built


def test_every_placeholder_of_the_launcher_is_filled_in_and_explained() -> None:
    line = next(line for line in typed() if line.startswith("envsubst"))
    listed = set(re.findall(r"\$(ARAE_\w+)", line.split("<")[0]))
    assert listed == set(re.findall(r"\$\{(\w+)\}", LAUNCHER.read_text()))
    assert listed == set(re.findall(r"^\| `(ARAE_\w+)`", README, re.M))


def test_secrets_that_are_made_are_those_that_are_read() -> None:
    environment = {secret["environment"] for secret in load(COMPOSE)[0]["secrets"].values()}
    loops = [set(re.findall(r"\w+", names)) for names in re.findall(r"for name in ([\w ]+);", "\n".join(typed()))]
    assert environment in loops
    launcher = set(re.findall(r"/opt/home/secrets/(\w+)", LAUNCHER.read_text()))
    assert launcher in loops
    made = {
        (shlex.split(line)[4], key)
        for line in typed()
        if line.startswith("kubectl create secret")
        for key in re.findall(r"--from-literal=([\w-]+)=", line)
    }
    assert made == set(_read_from_secrets(rendered())) | {("arae-ray", "auth_token")}
    assert {
        document["spec"]["authOptions"]["secretName"] for document in rendered() if document["kind"] == "RayCluster"
    } == {"arae-ray"}


def _read_from_secrets(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        for inner in node.values():
            yield from _read_from_secrets(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _read_from_secrets(inner)


def test_the_overlay_of_the_readme_names_every_image(tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    shutil.copytree(CLUSTER / "kubernetes", tmp_path / "kubernetes")
    (tmp_path / "overlay.local").mkdir()
    shutil.copy(CLUSTER / "kubernetes" / "fields.yaml", tmp_path / "overlay.local")
    overlay = next(block for language, block in snippets(README) if language == "yaml")
    (tmp_path / "overlay.local" / "kustomization.yaml").write_text(overlay)
    documents: list[Data] = rendered(tmp_path / "overlay.local")
    images = set(re.findall(r"'image': '([^']*)'", str(documents)))
    assert {"REGISTRY/arae:0.1.0-cpu", "REGISTRY/arae:0.1.0-cuda", "REGISTRY/arae-mlflow:0.1.0"} == {
        image for image in images if "arae" in image
    }
    assert [
        document["spec"].get("storageClassName")
        for document in documents
        if document["metadata"]["name"] == "arae-storage"
    ] == ["CLASS"]
