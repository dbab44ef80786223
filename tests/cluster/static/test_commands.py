"""The commands of the manifests and scripts are understood, and cluster/README.md names what they need.

tests/test_repository.py checks the commands of the README.
"""

import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.cluster.static.manifests import CLUSTER, COMPOSE, KUBERNETES, LAUNCHER, ROOT, load, pairs, rendered, snippets
from tests.cluster.static.test_image import stages

README = (CLUSTER / "README.md").read_text()
TYPED = [line for language, block in snippets(README) if language == "sh" for line in block.splitlines()]
"""The lines that cluster/README.md tells the reader to type."""
SERVICES = load(COMPOSE)[0]["services"].values()
CREATED = ("cluster/.env", "cluster/overlay.local", "cluster/ray-cluster.local.yaml")
"""Files that the commands of the README create."""
END = r"[;&|()<>]+"


def of_the_launcher(key: str) -> list[str]:
    """Return the launcher's command lines under all keys that contain this one."""
    return [line for name, lines in load(LAUNCHER)[0].items() if key in name for line in lines]


def started() -> Iterator[str]:
    """Yield the command lines of manifests and scripts."""
    for document in (document for path in KUBERNETES for document in load(path)):
        yield document.get("spec", {}).get("entrypoint", "")
        for name, parameters in pairs(document):
            if name == "rayStartParams":
                yield shlex.join(["ray", "start", *(f"--{flag}" for flag in parameters)])
    for script, *arguments in (service["command"] for service in SERVICES if "command" in service):
        yield shlex.join(["ray", "start", *arguments] if script.endswith("/node.sh") else [script, *arguments])
    yield from of_the_launcher("start")
    for file in CLUSTER.glob("*.sh"):
        yield from file.read_text().replace("\\\n", " ").splitlines()


def commands(program: str) -> list[list[str]]:
    """Return every command line of a program: at the start, behind variables, another command or `--`."""
    found = []
    for line in started():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        try:
            words = [";", *lexer]
        except ValueError:  # a line of a script with an open quotation
            continue
        for i, (before, word) in enumerate(pairwise(words), start=1):
            if word == program and (before in ("exec", "head", "--") or re.search(rf"^{END}$|=|\.sh$", before)):
                end = next((j for j in range(i, len(words)) if re.fullmatch(END, words[j])), len(words))
                found.append(words[i:end])
    return found


def unknown_flags(program: str, *words: str) -> set[str]:
    """Return the flags of a command line that the program does not know."""
    module, name = {"ray": ("ray.scripts.scripts", "cli"), "mlflow": ("mlflow.cli", "cli")}[program]
    command: Any = getattr(importlib.import_module(module), name)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    ours = rest[: rest.index("--")] if "--" in rest else rest
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    return {word.split("=")[0] for word in ours if re.match(r"--?[a-z]", word)} - known


@pytest.mark.parametrize("words", [*commands("ray"), *commands("mlflow")], ids=shlex.join)
def test_ray_and_mlflow_know_the_flags(words: list[str]) -> None:
    assert unknown_flags(*words) == set()


def test_an_unknown_flag_is_found() -> None:
    assert unknown_flags("ray", "start", "--heads", "--num-cpus=0") == {"--heads"}
    assert {words[1] for words in commands("ray")} >= {"start", "stop", "drain-node"}
    assert [words[1] for words in commands("mlflow")] == ["server"]


@pytest.mark.parametrize("words", [words for words in commands("python") if words[1] != "-c"], ids=shlex.join)
def test_our_commands_are_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, script, *arguments = words
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    assert (module.main([*arguments, "--print-config"]), capsys.readouterr().err) == (0, "")


@pytest.mark.parametrize("line", [*TYPED, *of_the_launcher("initialization_commands"), *of_the_launcher("start")])
def test_a_line_is_shell(line: str) -> None:
    run = subprocess.run(["bash", "-n"], input=line, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr


def test_files_and_sections_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"(?<![\w/.])cluster/[\w./-]*\w", "\n".join(TYPED)))
    assert {"cluster/compose.yaml", "cluster/Dockerfile", "cluster/ray-cluster.yaml"} <= named
    assert [name for name in named if not name.startswith(CREATED) and not (ROOT / name).exists()] == []
    files = re.findall(r"`([\w.-]+\.(?:sh|yaml)|kubernetes/)`", README)
    assert [name for name in files if not list(CLUSTER.rglob(name.rstrip("/")))] == []
    titles = re.findall(r"^#+ (.*)", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) <= anchors


def test_images_are_built_under_the_names_that_are_run() -> None:
    run = {service["image"] for service in SERVICES if "build" in service}
    run |= {load(LAUNCHER)[0]["docker"][name].rpartition("/")[2] for name in ("head_image", "worker_image")}
    if shutil.which("kubectl"):
        run |= set(re.findall(r"'image': '(arae[^']*)'", str(rendered())))
    builds = [shlex.split(line) for line in TYPED if line.startswith("docker build")]
    assert {words[words.index("--target") + 1] for words in builds} <= stages().keys()
    built = {words[words.index("--tag") + 1].rpartition("/")[2] for words in builds}
    assert built == {line.rpartition("/")[2] for line in TYPED if line.startswith("docker push")}
    assert run <= built


def test_every_placeholder_of_the_launcher_is_filled_in_and_explained() -> None:
    line = next(line for line in TYPED if line.startswith("envsubst"))
    filled = set(re.findall(r"\$(ARAE_\w+)", line.split("<")[0]))
    assert filled == set(re.findall(r"\$\{(\w+)\}", LAUNCHER.read_text()))
    assert filled == set(re.findall(r"^\| `(ARAE_\w+)`", README, re.MULTILINE))


def test_secrets_that_are_created_are_those_that_are_read() -> None:
    loops = [set(re.findall(r"\w+", names)) for names in re.findall(r"for name in ([\w ]+);", "\n".join(TYPED))]
    assert {secret["environment"] for secret in load(COMPOSE)[0]["secrets"].values()} in loops
    assert set(re.findall(r"/opt/home/secrets/(\w+)", LAUNCHER.read_text())) in loops
    lines = [line for line in TYPED if line.startswith("kubectl create secret")]
    created = {(shlex.split(line)[4], key) for line in lines for key in re.findall(r"--from-literal=([\w-]+)=", line)}
    named = list(pairs(rendered()))
    read = {(value["name"], value["key"]) for name, value in named if name == "secretKeyRef"}
    tokens = {(value["secretName"], "auth_token") for name, value in named if name == "authOptions"}
    assert created == read | tokens and len(tokens) == 1


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_overlay_of_the_readme_names_every_image_and_the_storage_class(tmp_path: Any) -> None:
    shutil.copytree(CLUSTER / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "overlay.local"
    overlay.mkdir()
    shutil.copy(CLUSTER / "kubernetes" / "fields.yaml", overlay)
    (overlay / "kustomization.yaml").write_text(
        next(block for language, block in snippets(README) if language == "yaml")
    )
    documents = rendered(overlay)
    images = {f"REGISTRY/{image}" for image in ("arae:0.1.0-cpu", "arae:0.1.0-cuda", "arae-mlflow:0.1.0")}
    assert {image for image in re.findall(r"'image': '([^']*)'", str(documents)) if "arae" in image} == images
    (storage,) = [document for document in documents if document["metadata"]["name"] == "arae-storage"]
    assert storage["spec"]["storageClassName"] == "CLASS"
