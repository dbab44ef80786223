"""Real servers on this machine: a Ray cluster of several nodes, an MLflow server, PostgreSQL behind it.

All are processes of ours, ended by their ids; Ray's nodes have resources of their own, as if they were machines.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.runtime.cluster import free_port
from tests.pipelines.small import descendants

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(sys.executable).parent


def wait_until(what: str, ready: Callable[[], Any], seconds: float = 120, program: "Program | None" = None) -> Any:
    """The first true value of ready(), asked a few times a second. Fails where there is none, or the program ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (program is None or program.process.poll() is None):
        if value := ready():
            return value
        time.sleep(0.2)
    tail = program.log.read_text(errors="replace")[-3000:] if program else ""
    raise AssertionError(f"after {seconds:g} s still not: {what}\n{tail}")


class Program:
    """A process and all below it, in a session of its own, with its output in a file."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(words), env=dict(environment), cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def below(self) -> list[tuple[int, str]]:
        """(pid, command line) of the processes that it has started."""
        return list(descendants(self.pid))

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM, and wait; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to all of it at once, as if the machine had lost its power."""
        for pid in (self.pid, *(pid for pid, _ in self.below())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


class Cluster:
    """A Ray head for drivers, and nodes for what they start."""

    def __init__(self, folder: Path, environment: Mapping[str, str], programs: Path = HERE) -> None:
        """folder: for Ray's own files; its path must be short, for Ray's sockets lie in it. programs: where the nodes
        have their `ray` and `python`."""
        self.folder, self.started = folder, 0
        self.port, self.dashboard, self.token = free_port(), free_port(), secrets.token_hex(16)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "ARAE_"))},
            **environment,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
        self.head = self._start(
            "head",
            ["--head", "--port", str(self.port), "--dashboard-host", "127.0.0.1"],
            ["--dashboard-port", str(self.dashboard), "--ray-client-server-port", str(free_port())],
            cpus=1,
        )
        self.nodes: list[Program] = []
        wait_until("the head answers", lambda: self.alive() == 1, program=self.head)

    def _start(self, name: str, *words: list[str], cpus: int, hidden: Path | None = None) -> Program:
        mount = f"mount -t tmpfs none '{hidden}' && exec \"$@\""
        command = ["unshare", "--mount", "sh", "-c", mount, "sh"] if hidden else []
        command += [str(ROOT / "cluster" / "node.sh"), *(word for some in words for word in some)]
        temporary = self.folder / name  # else all nodes would unpack jobs into one folder, and clear it for each other
        temporary.mkdir()
        command += [
            "--temp-dir",
            str(temporary),
            "--num-cpus",
            str(cpus),
            "--object-store-memory",
            "100000000",
            "--node-name",
            name,
        ]
        # ports that are usually the same on every machine, of which there is one
        command += ["--dashboard-agent-listen-port", str(free_port()), "--metrics-export-port", str(free_port())]
        return Program(name, command, self.environment, self.folder)

    def add(self, cpus: int = 2, hidden: Path | None = None) -> Program:
        """One more node, once the head knows of it. hidden: a folder in whose place it has one of its own."""
        self.started += 1
        before = self.alive()
        node = self._start(f"node{self.started}", ["--address", f"127.0.0.1:{self.port}"], cpus=cpus, hidden=hidden)
        self.nodes.append(node)
        wait_until("the node has joined", lambda: self.alive() > before, program=node)
        return node

    def lose(self, node: Program) -> None:
        """SIGKILL the node and all that runs on it, and wait until the head has noticed."""
        before = self.alive()
        node.kill()
        self.nodes.remove(node)
        wait_until("the head misses the node", lambda: self.alive() < before)

    def end(self) -> None:
        """End all nodes, then the head."""
        for program in (*self.nodes, self.head):
            program.kill()

    def ask(self, path: str, method: str = "GET") -> Any:
        """What the dashboard answers: None where it does not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.dashboard}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def alive(self) -> int:
        """Nodes that the head knows of."""
        answer = self.ask("/api/v0/nodes?limit=100") or {}
        rows = answer.get("data", {}).get("result", {}).get("result", [])
        return sum(row["state"] == "ALIVE" for row in rows)

    def workers(self) -> list[int]:
        """The processes that train, over all nodes."""
        return [pid for node in (self.head, *self.nodes) for pid, line in node.below() if "RayTrainWorker" in line]

    def submit(self, *words: str, runtime_env: str = "") -> "Job":
        """`ray job submit -- python pipelines/...` from this checkout; returns once the job is accepted."""
        submission = f"job-{secrets.token_hex(4)}"
        command = [str(HERE / "ray"), "job", "submit", "--no-wait", "--submission-id", submission]
        command += [
            "--working-dir",
            ".",
            *(["--runtime-env", runtime_env] if runtime_env else []),
            "--",
            "python",
            *words,
        ]
        address = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}"}
        run = subprocess.run(
            command, env=self.environment | address, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, run.stdout + run.stderr
        for size in re.findall(r"Pushing file package '.*' \((.*?)MiB\)", run.stdout + run.stderr):
            assert float(size) < 5
        return Job(self, submission, words[words.index("--run-name") + 1] if "--run-name" in words else "")


class Job:
    """A job of the cluster, by its submission id."""

    def __init__(self, cluster: Cluster, name: str, run: str) -> None:
        """run: the --run-name of the command."""
        self.cluster, self.name, self.run = cluster, name, run

    @property
    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str((self.cluster.ask(f"/api/jobs/{self.name}") or {}).get("status", ""))

    @property
    def logs(self) -> str:
        """What it has printed."""
        return str((self.cluster.ask(f"/api/jobs/{self.name}/logs") or {}).get("logs", ""))

    def stop(self) -> None:
        """`ray job stop`."""
        assert self.cluster.ask(f"/api/jobs/{self.name}/stop", "POST") == {"stopped": True}

    @property
    def driver(self) -> int:
        """The process of its command."""
        for pid, line in self.cluster.head.below():
            if "pipelines/" in line and f"--run-name {self.run}" in line and "python" in line.split()[0]:
                return pid
        raise AssertionError("no driver runs")

    def wait(self, seconds: float = 240) -> dict[str, Any]:
        """The results that it printed as its last line, once it has succeeded."""
        wait_until("the job has ended", lambda: self.status in ("SUCCEEDED", "FAILED", "STOPPED"), seconds)
        assert self.status == "SUCCEEDED", self.logs[-5000:]
        return dict(json.loads(self.logs.strip().splitlines()[-1]))

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Until it has printed that."""

        def there() -> bool:
            assert self.status != "FAILED", self.logs[-5000:]
            return text in self.logs

        try:
            wait_until(f"the job prints {text!r}", there, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs[-5000:]}") from None


class Postgres:
    """A database server with a password of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.password = folder, free_port(), secrets.token_hex(16)
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        found = shutil.which("initdb") or (str(programs[-1] / "initdb") if programs else "")
        assert found, "PostgreSQL is not installed: `apt-get install postgresql`"
        self.bin = Path(found).resolve().parent
        secret = folder / "password"
        secret.write_text(self.password)
        # it refuses to run as root
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(folder, "postgres")
            shutil.chown(secret, "postgres")
        words = [*self.user, str(self.bin / "initdb"), "-D", str(folder / "data"), "-U", "mlflow"]
        words += ["-A", "scram-sha-256", f"--pwfile={secret}"]
        subprocess.run(words, check=True, capture_output=True, cwd=folder)
        self.process = subprocess.Popen(
            [
                *(*self.user, str(self.bin / "postgres"), "-D", str(folder / "data"), "-k", str(folder)),
                *("-p", str(self.port), "-h", "127.0.0.1"),
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until("PostgreSQL answers", self._answers, 60)
        words = [str(self.bin / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow"]
        subprocess.run(words, check=True, env={**os.environ, "PGPASSWORD": self.password})

    def _answers(self) -> bool:
        words = [str(self.bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(words, capture_output=True).returncode == 0

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Tracking:
    """An MLflow server that keeps runs in a database and passes artifacts on to a folder."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store, self.port = folder, store, free_port()
        self.program: Program | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, or start it again where it was killed."""
        words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1"]
        words += ["--port", str(self.port), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.program = Program("mlflow", words, environment, self.folder)
        wait_until("MLflow answers", self._healthy, 120, self.program)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        assert self.program is not None
        self.program.kill()

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of every point of a curve, as they are stored."""
        from pipelines.tracking.store import connect

        points = connect(self.uri).get_metric_history(run_id, metric)
        return sorted((point.step, point.value) for point in points)
