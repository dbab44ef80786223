"""The shell scripts of cluster/, each run with stand-ins for the programs that it calls."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.static.manifests import CLUSTER

SCRIPTS = sorted(CLUSTER.glob("*.sh"))


def run(script: str | Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with this environment alone; PATH is put before that of the system."""
    path = f"{environment.get('PATH', '')}:/usr/local/bin:/usr/bin:/bin".lstrip(":")
    command = [str(CLUSTER / script), *arguments]
    return subprocess.run(command, env=environment | {"PATH": path}, capture_output=True, text=True, timeout=300)


def program(folder: Path, name: str, body: str) -> Path:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_and_shell(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_scripts_that_are_started_exist() -> None:
    text = "".join(path.read_text() for path in [CLUSTER / "Dockerfile", *CLUSTER.rglob("*.yaml")])
    named = set(re.findall(r"/opt/arae/cluster/(\w+\.sh)", text))
    assert {"node.sh", "drain.sh", "mlflow.sh", "entrypoint.sh", "spot.sh"} <= named
    assert named <= {path.name for path in SCRIPTS}


def test_the_entry_point_reads_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    done = run("entrypoint.sh", "printenv", "PGPASSWORD", PGPASSWORD_FILE=str(tmp_path / "password"))
    assert (done.returncode, done.stdout) == (0, "from a file\n")
    assert run("entrypoint.sh", "printenv", "PGPASSWORD", PGPASSWORD="given").stdout == "given\n"
    done = run("entrypoint.sh", "true", MLFLOW_TRACKING_PASSWORD_FILE=str(tmp_path / "missing"))
    assert done.returncode == 2 and "MLFLOW_TRACKING_PASSWORD_FILE" in done.stderr


def test_no_secret_is_on_the_command_line_of_the_server(tmp_path: Path) -> None:
    program(tmp_path, "mlflow", 'echo "$@"; echo "$MLFLOW_BACKEND_STORE_URI"; cat "$MLFLOW_AUTH_CONFIG_PATH"')
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": "hidden-1", "MLFLOW_FLASK_SERVER_SECRET_KEY": "hidden-2"}
    required = {**secrets, "MLFLOW_ARTIFACTS_DESTINATION": "a"}
    given = {**required, "PGPASSWORD": "hidden-3", "PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = run("mlflow.sh", **given)
    assert done.returncode == 0, done.stderr
    assert "--app-name basic-auth" in done.stdout and "hidden" not in done.stdout
    assert "\ndatabase_uri = postgresql+psycopg2://\n" in done.stdout
    done = run("mlflow.sh", **given, MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://h/a%20b")
    assert "\ndatabase_uri = postgresql+psycopg2://h/a%%20b\n" in done.stdout, "configparser interpolates %"
    for name in required:
        done = run("mlflow.sh", **{**given, name: ""})
        assert done.returncode == 2 and name in done.stderr


def test_the_notice_of_a_spot_machine_drains_the_node(tmp_path: Path) -> None:
    script = program(tmp_path, "spot.sh", (CLUSTER / "spot.sh").read_text())
    program(tmp_path, "drain.sh", "echo drained")
    # There is no notice at first (`curl --fail` fails with a 404), then one.
    answer = 'case "$*" in *api/token*) echo t;; *) echo >> "$SEEN"; [ "$(wc -l < "$SEEN")" -gt 2 ] && echo "{}";; esac'
    program(tmp_path, "curl", answer)
    done = run(script, PATH=str(tmp_path), ARAE_SPOT_SECONDS="0.05", SEEN=str(tmp_path / "seen"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "drained")
    assert len((tmp_path / "seen").read_text().splitlines()) == 3


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[int]]:
    """Two processes that each started a raylet, as `ray start --block` does; their workers end 3 s after `ray` ran."""
    steps = f"until [ -e {tmp_path}/called ]; do sleep 0.1; done; sleep 3; touch {tmp_path}/ended$2"
    worker = f'(exec -a ray::train bash -c "{steps}") &'
    # The name of a script is the name of its process.
    raylet = program(tmp_path, "raylet", f"{worker}\necho started\nwhile :; do read -t 1 -u 9 9<> <(:); done")
    started = []
    for name in ("A", "B"):
        line = f'"{raylet}" --gcs-address=gcs --node_id=NODE_{name} & wait'
        started.append(subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, start_new_session=True))
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"  # before this line the process has another name
    yield [process.pid for process in started]
    for process in started:
        os.killpg(process.pid, 9)
        process.communicate()


def test_only_the_named_node_is_drained_and_its_workers_end_first(nodes: list[int], tmp_path: Path) -> None:
    program(tmp_path, "ray", f'echo "$@"; touch {tmp_path}/called')
    for process, name in zip(nodes, "AB", strict=True):
        done = run("drain.sh", str(process), PATH=str(tmp_path), ARAE_DRAIN_SECONDS="100")
        assert done.returncode == 0 and f"--node-id NODE_{name} " in done.stdout, done
        assert (tmp_path / f"ended--node_id=NODE_{name}").exists()


def test_drain_fails_where_no_node_runs(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as alone:  # the Ray cluster of other tests may run below this process
        done = run("drain.sh", str(alone.pid))
        alone.kill()
    assert (done.returncode, done.stderr) == (1, "drain.sh: no Ray node is running on this machine\n")
