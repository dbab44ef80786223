"""The images of the Dockerfile: pinned, without root and secrets, and with every file that they copy."""

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from typing import NamedTuple

import pytest
from packaging.utils import canonicalize_name

from tests.cluster.static.manifests import CLUSTER, POLICY, ROOT, errors, load

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()
TARGETS = ("node", "launcher", "mlflow")


class Stage(NamedTuple):
    """A stage of a Dockerfile. `steps`: (instruction, its arguments), those of a base in the same file first."""

    base: str
    steps: list[tuple[str, str]]


@cache
def stages(text: str = DOCKERFILE) -> dict[str, Stage]:
    """Return the stages of a Dockerfile by name, with the defaults of its arguments filled in."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    name = ""
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], rest).partition(" AS ")
            found[name] = Stage(base, list(found[base].steps) if base in found else [])
        elif word == "ARG" and not found:
            argument, _, default = rest.partition("=")
            arguments[argument] = default
        elif word:
            found[name].steps.append((word, rest.strip()))
    return found


def faults(text: str) -> Iterator[str]:
    """Yield the faults of the images of a Dockerfile."""
    found = stages(text)
    for name, (base, steps) in found.items():
        if base not in found:
            yield from errors(POLICY["image"], base)
        for word, rest in steps:
            if "pip install" in rest and not re.search(r"(--constraint |'\^torch==' )\S*requirements\.lock", rest):
                yield f"{name}: installs packages that no lock pins"
            if re.search(r"(?i)(password|token|secret)\w*=", rest) or word == "ADD":
                yield f"{name}: {word} {rest}"
        if name in TARGETS:
            if [rest for word, rest in steps if word == "USER"][-1:] != ["1000:1000"]:
                yield f"{name}: runs as root"
            if steps[-1][0] not in ("USER", "CMD", "EXPOSE", "HEALTHCHECK"):
                yield f"{name}: a step after USER may create files of root"
            if not any(word == "HEALTHCHECK" and rest.startswith("-") for word, rest in steps):
                yield f"{name}: has no health check"


def test_the_images_have_no_faults() -> None:
    assert list(faults(DOCKERFILE)) == []
    for target in TARGETS:
        steps = stages()[target].steps
        assert ("WORKDIR", "/opt/arae") in steps
        assert any(word == "ENV" and "ARAE_STORAGE=/var/lib/arae" in rest for word, rest in steps)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("python:3.11.14-slim-bookworm", "python:slim"),
        ("USER 1000:1000", "USER root"),
        ("USER 1000:1000\n", ""),
        ("HEALTHCHECK", "LABEL"),
        ("--constraint requirements.lock", "--upgrade"),
        ("ENV HOME=", "ENV RAY_AUTH_TOKEN=x HOME="),
        ("COPY pipelines", "ADD pipelines"),
    ],
)
def test_a_fault_is_found(before: str, after: str) -> None:
    assert before in DOCKERFILE
    assert list(faults(DOCKERFILE.replace(before, after)))


def test_copied_files_exist_and_reach_the_builder() -> None:
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = {rest for stage in stages().values() for word, rest in stage.steps if word == "COPY"}
    for source, *more in (rest.split()[:-1] for rest in copied):
        if source.startswith("--from="):
            assert source.removeprefix("--from=") in stages()
            continue
        for path in (source, *more):
            assert list(ROOT.glob(path)), path
            assert any(fnmatch(path, pattern) for pattern in sent), f"{path} does not reach the builder"


def locked() -> set[str]:
    """Return the names of the packages in requirements.lock."""
    return {
        canonicalize_name(name) for name in re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements.lock").read_text())
    }


def test_the_images_install_the_lock_without_development_packages() -> None:
    runs = " ".join(rest for stage in stages().values() for word, rest in stage.steps if word == "RUN")
    program = re.search(r'python -c "(import tomllib.*?)"', runs)
    assert program
    run = subprocess.run([sys.executable, "-c", program[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {canonicalize_name(re.split(r"[\[<>=]", line)[0]) for line in run.stdout.splitlines()}
    assert {"torch", "ray", "mlflow"} <= wanted <= locked()
    assert not wanted & {"pytest", "ruff", "mypy"}


def test_the_packages_of_the_server_are_pinned_once() -> None:
    for line in (CLUSTER / "requirements.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            assert bool(version) != (canonicalize_name(name) in locked()), line


def test_compose_builds_stages_of_the_dockerfile() -> None:
    for service in load(CLUSTER / "compose.yaml")[0]["services"].values():
        if build := service.get("build"):
            assert {build["target"], build.get("args", {}).get("VARIANT", "cpu")} <= stages().keys()
            assert (CLUSTER / build["context"] / build["dockerfile"]).samefile(CLUSTER / "Dockerfile")
