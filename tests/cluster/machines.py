"""Real servers on this machine: a Ray cluster of several nodes, and an MLflow server with PostgreSQL.

All of them are child processes, ended by their ids. Each Ray node has its own resources, as if it were a machine.
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
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.runtime.cluster import free_port
from tests.pipelines.small import descendants

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent


def wait_until(goal: str, ready: Callable[[], Any], seconds: float = 300, program: "Program | None" = None) -> Any:
    """Poll ready() until it is true and return its value. Fail after `seconds`, or if the program ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (program is None or program.process.poll() is None):
        if value := ready():
            return value
        time.sleep(0.2)
    tail = program.log.read_text(errors="replace")[-3000:] if program else ""
    raise AssertionError(f"not reached in {seconds:g} s: {goal}\n{tail}")


class Program:
    """A process and its descendants, in their own session, with output to a file."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(words), env=dict(environment), cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    def running(self, text: str) -> list[int]:
        """Return the ids of the descendants whose command line contains `text`."""
        return [pid for pid, line in descendants(self.process.pid) if text in line]

    def kill(self) -> None:
        """Kill all processes at once with SIGKILL, as if the machine had lost power."""
        for pid in (self.process.pid, *self.running("")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


class Cluster:
    """A Ray head that runs the drivers, and nodes that run the workers."""

    def __init__(self, folder: Path, environment: Mapping[str, str], programs: Path = PROGRAMS) -> None:
        """folder: for Ray's own files; keep its path short, because it holds Ray's sockets. programs: folder of the
        nodes' `ray` and `python`."""
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
        ports = ["--dashboard-port", str(self.dashboard), "--ray-client-server-port", str(free_port())]
        head = ["--head", "--port", str(self.port), "--dashboard-host", "127.0.0.1", *ports]
        self.head = self._start("head", head, cpus=1)
        self.nodes: list[Program] = []

    def _start(self, name: str, words: list[str], cpus: int, hidden: Path | None = None) -> Program:
        """Start a node and wait until it has joined. On a busy machine `ray start` may give up: try again."""
        before = self.alive()
        mount = f"mount -t tmpfs none '{hidden}' && exec \"$@\""
        command = ["unshare", "--mount", "sh", "-c", mount, "sh"] if hidden else []
        command += [str(ROOT / "cluster" / "node.sh"), *words, "--node-name", name]
        command += ["--num-cpus", str(cpus), "--object-store-memory", "100000000"]
        for attempt in range(3):
            temporary = (
                self.folder / f"{name}-{attempt}"
            )  # in one folder, nodes would delete each other's unpacked jobs
            temporary.mkdir()
            # All nodes are on one machine, so the default ports would collide.
            ports = ["--dashboard-agent-listen-port", str(free_port()), "--metrics-export-port", str(free_port())]
            program = Program(name, [*command, "--temp-dir", str(temporary), *ports], self.environment, self.folder)
            wait_until(f"{name} has joined", partial(self._joined_or_ended, program, before))
            if program.process.poll() is None:
                return program
            with suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)  # whatever it has left behind
        raise AssertionError(program.log.read_text(errors="replace")[-3000:])

    def _joined_or_ended(self, program: Program, before: int) -> bool:
        return self.alive() > before or program.process.poll() is not None

    def add(self, cpus: int = 2, hidden: Path | None = None) -> Program:
        """Add a node and wait until it has joined. hidden: a folder that is empty and private on this node."""
        self.started += 1
        node = self._start(f"node{self.started}", ["--address", f"127.0.0.1:{self.port}"], cpus, hidden)
        self.nodes.append(node)
        return node

    def lose(self, node: Program) -> None:
        """Kill a node with everything on it, and wait until the head has noticed."""
        before = self.alive()
        node.kill()
        self.nodes.remove(node)
        wait_until("the head misses the node", lambda: self.alive() < before)

    def end(self) -> None:
        """End all nodes, then the head."""
        for program in (*self.nodes, self.head):
            program.kill()

    def ask(self, path: str, method: str = "GET") -> Any:
        """Return the dashboard's answer, or None if there is none."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.dashboard}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def alive(self) -> int:
        """Return the number of living nodes."""
        answer = self.ask("/api/v0/nodes?limit=100") or {}
        rows = answer.get("data", {}).get("result", {}).get("result", [])
        return sum(row["state"] == "ALIVE" for row in rows)

    def workers(self) -> list[int]:
        """Return the ids of the training processes of all nodes."""
        return [pid for node in (self.head, *self.nodes) for pid in node.running("RayTrainWorker")]

    def node_running(self, text: str) -> Program:
        """Return the first node with a process whose command line contains `text`."""
        return next(node for node in self.nodes if node.running(text))

    def submit(self, *words: str, runtime_env: str = "") -> "Job":
        """Submit `python WORDS` as a job from this checkout, and return once it is accepted."""
        submission = f"job-{secrets.token_hex(4)}"
        command = [str(PROGRAMS / "ray"), "job", "submit", "--no-wait", "--submission-id", submission]
        command += [
            "--working-dir",
            ".",
            *(["--runtime-env", runtime_env] if runtime_env else []),
            "--",
            "python",
            *words,
        ]
        environment = self.environment | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}"}
        run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr
        for size in re.findall(r"Pushing file package '.*' \((.*?)MiB\)", run.stdout + run.stderr):
            assert float(size) < 5
        return Job(self, submission, words)


class Job:
    """A job of the cluster."""

    def __init__(self, cluster: Cluster, name: str, words: Sequence[str]) -> None:
        """name: its submission id. words: its command, without `python`."""
        self.cluster, self.name, self.words = cluster, name, words

    @property
    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str((self.cluster.ask(f"/api/jobs/{self.name}") or {}).get("status", ""))

    @property
    def logs(self) -> str:
        """The output so far."""
        return str((self.cluster.ask(f"/api/jobs/{self.name}/logs") or {}).get("logs", ""))

    def stop(self) -> None:
        """Do as `ray job stop`, and wait."""
        assert self.cluster.ask(f"/api/jobs/{self.name}/stop", "POST") == {"stopped": True}
        wait_until("the job has stopped", lambda: self.status == "STOPPED")

    def kill_driver(self) -> None:
        """Kill the process of the job's command, and wait until the job has failed."""
        run = f"--run-name {self.words[self.words.index('--run-name') + 1]}"
        (driver,) = [
            pid
            for pid, line in descendants(self.cluster.head.process.pid)
            if "pipelines/" in line and run in line and "python" in line.split()[0]
        ]
        os.kill(driver, signal.SIGKILL)
        wait_until("the job has failed", lambda: self.status == "FAILED")

    def submit_again(self) -> "Job":
        """Submit the same command as another job."""
        return self.cluster.submit(*self.words)

    def wait(self, seconds: float = 900) -> dict[str, Any]:
        """Wait until the job has succeeded, and return the results on its last line."""
        wait_until("the job has ended", lambda: self.status in ("SUCCEEDED", "FAILED", "STOPPED"), seconds)
        assert self.status == "SUCCEEDED", self.logs[-5000:]
        return dict(json.loads(self.logs.strip().splitlines()[-1]))

    def wait_for(self, text: str, seconds: float = 600) -> None:
        """Wait until the job has printed `text`."""

        def printed() -> bool:
            assert self.status != "FAILED", self.logs[-5000:]
            return text in self.logs

        try:
            wait_until(f"the job prints {text!r}", printed, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs[-5000:]}") from None


class Postgres:
    """A PostgreSQL server with its own password."""

    def __init__(self, folder: Path) -> None:
        self.port, self.password = free_port(), secrets.token_hex(16)
        found = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default="")
        assert found, "PostgreSQL is not installed: `apt-get install postgresql`"
        programs = Path(found).resolve().parent
        secret = folder / "password"
        secret.write_text(self.password)
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # the server refuses to run as root
        if user:
            shutil.chown(folder, "postgres")
            shutil.chown(secret, "postgres")
        data, address = str(folder / "data"), ["-h", "127.0.0.1", "-p", str(self.port)]
        make = [*user, str(programs / "initdb"), "-D", data, "-U", "mlflow", "-A", "scram-sha-256"]
        subprocess.run([*make, f"--pwfile={secret}"], check=True, capture_output=True, cwd=folder)
        serve = [*user, str(programs / "postgres"), "-D", data, "-k", str(folder), *address]
        with (folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(serve, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        ask = [str(programs / "pg_isready"), *address]
        wait_until("PostgreSQL answers", lambda: subprocess.run(ask, capture_output=True).returncode == 0, 60)
        create = [str(programs / "createdb"), *address, "-U", "mlflow", "mlflow"]
        subprocess.run(create, check=True, env={**os.environ, "PGPASSWORD": self.password})

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Tracking:
    """An MLflow server that stores runs in a database and artifacts in a folder."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store, self.port = folder, store, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start the server, also after `kill`, and wait until it answers."""
        words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1"]
        words += ["--port", str(self.port), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.program = Program("mlflow", words, environment, self.folder)
        wait_until("MLflow answers", self._healthy, 120, self.program)

    def _healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        self.program.kill()

    def steps(self, run_id: str, metric: str) -> list[int]:
        """Return the step of every stored point of a curve."""
        from pipelines.tracking.store import connect

        return sorted(point.step for point in connect(self.uri).get_metric_history(run_id, metric))
