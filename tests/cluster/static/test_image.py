"""The image: what the Dockerfile says is there, pinned, and not root's; the scripts do what they say."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.cluster.static.manifests import CLUSTER, POLICY, ROOT, errors, load

SCRIPTS = sorted(CLUSTER.glob("*.sh"))
TARGETS = ("node", "launcher", "mlflow")


@dataclass
class Stage:
    """A stage of a Dockerfile: what it starts from, and its instructions."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


DOCKERFILE = (CLUSTER / "Dockerfile").read_text()


@cache
def stages(text: str = DOCKERFILE) -> dict[str, Stage]:
    """Those of a Dockerfile by name, with the defaults of its arguments filled in."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base))
        elif word == "ARG" and not found:
            name, _, default = rest.partition("=")
            arguments[name] = default
        elif word:
            list(found.values())[-1].steps.append((word, rest.strip()))
    return found


def steps(target: str, text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a stage after those of what it starts from."""
    stage = stages(text)[target]
    if stage.base in stages(text):
        yield from steps(stage.base, text)
    yield from stage.steps


def faults(text: str) -> Iterator[str]:
    """What there is against the images of a Dockerfile."""
    for name, stage in stages(text).items():
        if stage.base not in stages(text):
            yield from errors(POLICY["image"], stage.base)
        for word, rest in stage.steps:
            if "pip install" in rest and not re.search(r"(--constraint |'\^torch==' )\S*requirements\.lock", rest):
                yield f"{name}: packages that no lock pins"
            if re.search(r"(?i)(password|token|secret)\w*=", rest) or word == "ADD":
                yield f"{name}: {word} {rest}"
    for target in TARGETS:
        done = list(steps(target, text))
        if [rest for word, rest in done if word == "USER"][-1:] != ["1000:1000"]:
            yield f"{target}: root's"
        if done[-1][0] not in ("USER", "CMD", "EXPOSE", "HEALTHCHECK"):
            yield f"{target}: its last steps may be root's"
        if not any(word == "HEALTHCHECK" and rest.startswith("-") for word, rest in done):
            yield f"{target}: no health check"


def test_images_are_pinned_and_not_roots_and_say_how_they_are() -> None:
    assert list(faults(DOCKERFILE)) == []
    for target in TARGETS:
        done = list(steps(target, DOCKERFILE))
        assert ("WORKDIR", "/opt/arae") in done
        assert any(word == "ENV" and "ARAE_STORAGE=/var/lib/arae" in rest for word, rest in done)


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
def test_an_image_with_a_fault_is_refused(before: str, after: str) -> None:
    assert before in DOCKERFILE
    assert list(faults(DOCKERFILE.replace(before, after)))


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for stage in stages().values():
        for word, rest in stage.steps:
            if word != "COPY":
                continue
            *sources, _ = rest.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in stages()
                continue
            for source in sources:
                assert list(ROOT.glob(source)), source
                assert any(fnmatch(source, pattern) for pattern in sent), f"{source} is not sent"


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines if "==" in x)}


def test_what_is_installed_is_the_lock() -> None:
    every = [rest for stage in stages().values() for word, rest in stage.steps if word == "RUN"]
    installs = [rest for rest in every if "pip install" in rest]
    assert len(installs) == 4
    program = next(re.search(r'python -c "(.*?)"', install) for install in installs if "tomllib" in install)
    assert program
    run = subprocess.run([sys.executable, "-c", program[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {canonicalize_name(re.split(r"[\[<>=]", line)[0]) for line in run.stdout.splitlines()}
    assert {"torch", "ray", "mlflow"} <= wanted <= locked().keys()
    assert not wanted & {"pytest", "ruff", "mypy"}


def test_the_servers_packages_are_pinned_and_agree_with_the_lock() -> None:
    for line in (CLUSTER / "requirements.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            assert bool(version) != (canonicalize_name(name) in locked()), line


def test_what_a_manifest_builds_is_a_stage() -> None:
    for service in load(CLUSTER / "compose.yaml")[0]["services"].values():
        if build := service.get("build"):
            assert build["target"] in stages()
            assert (CLUSTER / build["context"] / build["dockerfile"]).samefile(CLUSTER / "Dockerfile")
            assert {build.get("args", {}).get("VARIANT", "cpu")} <= stages().keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_run(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_what_is_started_is_there() -> None:
    text = "".join(path.read_text() for path in [CLUSTER / "Dockerfile", *CLUSTER.rglob("*.yaml")])
    named = set(re.findall(r"/opt/arae/cluster/(\w+\.sh)", text))
    assert {"node.sh", "drain.sh", "mlflow.sh", "entrypoint.sh", "spot.sh"} <= named
    assert named <= {path.name for path in SCRIPTS}


def run(script: str | Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = "/usr/local/bin:/usr/bin:/bin"
    environment = {**environment, "PATH": f"{environment['PATH']}:{path}" if "PATH" in environment else path}
    command = [str(CLUSTER / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


def test_the_entry_point_reads_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    done = run("entrypoint.sh", "printenv", "PGPASSWORD", PGPASSWORD_FILE=str(tmp_path / "password"))
    assert (done.returncode, done.stdout) == (0, "from a file\n")
    assert run("entrypoint.sh", "printenv", "PGPASSWORD", PGPASSWORD="given").stdout == "given\n"
    done = run("entrypoint.sh", "true", MLFLOW_TRACKING_PASSWORD_FILE=str(tmp_path / "missing"))
    assert done.returncode == 2
    assert "MLFLOW_TRACKING_PASSWORD_FILE" in done.stderr


def test_the_server_is_started_without_a_secret_on_its_command_line(tmp_path: Path) -> None:
    program(tmp_path, "mlflow", 'echo "$@"; echo "$MLFLOW_BACKEND_STORE_URI"; cat "$MLFLOW_AUTH_CONFIG_PATH"')
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": "hidden-1", "MLFLOW_FLASK_SERVER_SECRET_KEY": "hidden-2"}
    given = {**secrets, "PGPASSWORD": "hidden-3", "MLFLOW_ARTIFACTS_DESTINATION": "a", "PATH": str(tmp_path)}
    done = run("mlflow.sh", **given, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "--app-name basic-auth" in done.stdout
    assert "\ndatabase_uri = postgresql+psycopg2://\n" in done.stdout
    assert "hidden" not in done.stdout
    done = run("mlflow.sh", **given, TMPDIR=str(tmp_path), MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://h/a%20b")
    assert "\ndatabase_uri = postgresql+psycopg2://h/a%%20b\n" in done.stdout, "configparser takes % for its own"
    for name in given.keys() - {"PATH", "PGPASSWORD"}:
        done = run("mlflow.sh", **{**given, name: ""})
        assert done.returncode == 2
        assert name in done.stderr


def test_the_notice_of_a_spot_machine_drains_the_node(tmp_path: Path) -> None:
    (tmp_path / "spot.sh").write_text((CLUSTER / "spot.sh").read_text())
    (tmp_path / "spot.sh").chmod(0o755)
    program(tmp_path, "drain.sh", "echo drained")
    # No notice at first (404 makes `curl --fail` fail), then one.
    answer = 'case "$*" in *api/token*) echo t;; *) echo >> "$SEEN"; [ "$(wc -l < "$SEEN")" -gt 2 ] && echo "{}";; esac'
    program(tmp_path, "curl", answer)
    done = run(tmp_path / "spot.sh", PATH=str(tmp_path), ARAE_SPOT_SECONDS="0.05", SEEN=str(tmp_path / "seen"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "drained")
    assert len((tmp_path / "seen").read_text().splitlines()) == 3
