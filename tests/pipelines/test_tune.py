"""tune.py as it is typed: mistakes, a sweep killed and gone on with, Ctrl-C, and a Ray job."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime.cluster import free_port
from pipelines.tune import main
from tests.pipelines.small import SMALL
from tests.pipelines.test_train import ROOT, command, spelled, wait_for


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--space", "stabilty"],
            "--space must be one of critic_objective, learning_rates, stability, transfer, got 'stabilty'",
        ),
        (["--scheduler", "ash"], "scheduler must be one of asha, pbt, none"),
        (["--trials", "0"], "--trials must be >= 1"),
        (["--max-concurrent", "-1"], "--max-concurrent must be >= 0, got -1"),
        (["--scheduler", "pbt", "--trials", "1"], "--trials must be >= 2 with --scheduler pbt"),
        (["--scheduler", "pbt", "--max-concurrent", "2"], "--max-concurrent must be 0 with --scheduler pbt"),
        (["--scheduler", "pbt", "--search", "optuna"], "--search must be random with --scheduler pbt"),
        (["--workers", "3000", "--batch-size", "3000"], "workers must be <= "),
        (["--gpus-per-trial", "nan"], "--gpus-per-trial must be >= 0, got nan"),
        (["--gpus-per-trial", "-1"], "--gpus-per-trial must be >= 0, got -1"),
        (["--gpus-per-trial", "64"], "workers must be <= 0 here"),
        (["--resume", "yesterday"], "--resume yesterday: no such sweep in"),
        (["--storage", "/dev/null/here"], "--storage /dev/null/here cannot be written to"),
    ],
)
@pytest.mark.usefixtures("ray_stays_off")
def test_mistakes_are_told_before_ray_starts(
    words: list[str], message: str, tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--storage", str(tmp_path), "--tracking-uri", tracking_uri, *spelled({"data.size": 600})]
    assert main([*shared, *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err


def test_an_unknown_sweep_names_those_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.runtime.run_record import write_record

    for name in ("one", "two"):
        write_record(tmp_path / "sweeps" / name / "sweep.json", {})
    assert main(["--storage", str(tmp_path), "--resume", "three"]) == 2
    assert "there are: one, two" in capsys.readouterr().err
    assert main(["--storage", str(tmp_path), "--resume", "one", "--seed", "3"]) == 2
    assert "leave out --seed" in capsys.readouterr().err


def runs(tracking_uri: str) -> list[Any]:
    from pipelines.tracking.store import connect

    client = connect(tracking_uri)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.trial_id LIKE '%'"))


def test_trials_of_an_interrupted_sweep_are_ended(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that have reported nothing yet: Tune tells of none of them."""
    from pipelines.runtime import cluster, run_record
    from pipelines.tracking.runs import start_or_resume_child

    @contextmanager
    def running(**_: object) -> Iterator[cluster.Room]:
        record = run_record.read_record(tmp_path / "sweeps" / "mine" / "sweep.json")
        assert record is not None
        start_or_resume_child(tracking_uri, "arae-grammar", record["run_id"], "ab_00000", params={})
        raise KeyboardInterrupt
        yield cluster.Room(2, 0, 2, 0, attached=False)

    monkeypatch.setattr(cluster, "running", running)
    monkeypatch.setattr(cluster, "this_machine", lambda: cluster.Room(2, 0, 2, 0, attached=False))
    words = [*spelled(SMALL), "--run-name", "mine", "--storage", str(tmp_path), "--tracking-uri", tracking_uri]
    assert main(words) == 130
    again = f"--resume mine --storage {tmp_path} --tracking-uri {tracking_uri}"
    assert again in capsys.readouterr().err
    assert [run.info.status for run in runs(tracking_uri)] == ["KILLED"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_sweep_goes_on(tmp_path: Path, tracking_uri: str) -> None:
    """SIGKILL when a trial is done and that is written down: --resume repeats nothing of it, and all end."""
    from pipelines.tracking.store import connect

    words = command(
        "tune.py", tmp_path, tracking_uri, "--trials", "6", "--scheduler", "none", "--run-name", "killed",
        **{"iterations": 300, "evaluate_every": 50, "log_every": 10},
    )  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        state = (tmp_path / "sweeps" / "killed").glob  # written every two seconds
        wait_for(lambda: any("TERMINATED" in file.read_text() for file in state("experiment_state-*.json")), process)
        process.send_signal(signal.SIGKILL)
    finished = {run.info.run_id: run.info.end_time for run in runs(tracking_uri) if run.info.status == "FINISHED"}
    assert 1 <= len(finished) < 6
    resume = [sys.executable, str(ROOT / "pipelines" / "tune.py"), "--resume", "killed"]
    resume += ["--storage", str(tmp_path), "--tracking-uri", tracking_uri, "--json"]
    again = subprocess.run(resume, capture_output=True, text=True, check=True)
    results = json.loads(again.stdout.splitlines()[-1])
    assert [trial["state"] for trial in results["trials"]] == ["done"] * 6
    assert results["model_version"] == 1 and Path(results["checkpoint"]).is_dir()
    after = runs(tracking_uri)
    assert len(after) == 6 and {run.info.status for run in after} == {"FINISHED"}
    for run in after:
        points = connect(tracking_uri).get_metric_history(run.info.run_id, "reconstruction_loss")
        steps = [point.step for point in points]
        if run.info.run_id in finished:
            assert steps == list(range(10, 301, 10))
        assert set(steps) == set(range(10, 301, 10))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_leaves_a_sweep_to_go_on_with(tmp_path: Path, tracking_uri: str) -> None:
    words = command("tune.py", tmp_path, tracking_uri, "--trials", "3", "--run-name", "mine", **{"iterations": 100_000})
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(tmp_path.glob("sweeps/mine/*/checkpoint_*/manifest.json")), process)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "to continue: " in err
    assert f"python pipelines/tune.py --resume mine --storage {tmp_path}" in err
    assert list((tmp_path / "sweeps" / "mine").glob("experiment_state-*.json"))
    assert {run.info.status for run in runs(tracking_uri)} == {"KILLED"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_ray_job(tmp_path: Path, tracking_uri: str) -> None:
    """A head with a dashboard, `ray job submit`, and the sweep joins the cluster it is submitted to."""
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    assert ray is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "PATH": path}
    env.pop("RAY_ADDRESS", None)
    ports = [free_port() for _ in range(3)]
    temp = Path("/tmp") / f"arae-job-{os.getpid()}"
    head = [ray, "start", "--head", "--node-ip-address", "127.0.0.1", "--port", str(ports[0]), "--num-cpus", "2"]
    head += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(ports[1]), "--temp-dir", str(temp), "--block"]
    head += ["--ray-client-server-port", str(ports[2]), "--disable-usage-stats"]
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(head, env=env, stdout=log, stderr=log, text=True, start_new_session=True)
    try:
        wait_for(lambda: answers(ports[1]), process)
        script, *words = command("tune.py", tmp_path, tracking_uri, "--trials", "2", **{"iterations": 12})[1:]
        assert script == str(ROOT / "pipelines" / "tune.py")
        submit = [ray, "job", "submit", "--address", f"http://127.0.0.1:{ports[1]}", "--working-dir", str(ROOT), "--"]
        job = [*submit, "python", "pipelines/tune.py", *words]
        for _ in range(60):  # the dashboard answers before the agent that takes jobs is there
            done = subprocess.run(job, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
            if "No available agent" not in done.stderr:
                break
            time.sleep(2)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "registered arae-grammar version 1 as champion" in done.stdout
        failed = subprocess.run([*job, "--trials", "0"], env=env, capture_output=True, text=True, check=False, cwd=ROOT)
        assert failed.returncode != 0 and "--trials must be >= 1" in failed.stdout
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(temp, ignore_errors=True)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_the_model_of_a_sweep_is_of_its_best_trials_run(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is told, before it is registered, where its codes say less than the preset's."""
    from pipelines.reporting import summary
    from pipelines.runtime import cluster, run_record
    from pipelines.sweeps import search
    from pipelines.tracking.store import connect

    room, asked = cluster.Room(2, 0, 2, 0, attached=False), list[Any]()

    @contextmanager
    def running(**_: object) -> Iterator[cluster.Room]:
        yield room

    def register(_: object, checkpoint: Path, metrics: Any, uri: str, run_id: str, *__: object) -> None:
        asked.append((checkpoint, metrics["step"], uri, run_id))
        raise KeyboardInterrupt

    best: dict[str, Any] = {"trial": "ab_1", "state": "done", "step": 6, "end": 24, "generation_perplexity": 3.0}
    best |= {"run_id": "of ab_1", "checkpoint": tmp_path, "validation_accuracy": 0.4}
    found = search.Found([best, {"trial": "ab_0", "state": "done", "validation_accuracy": 0.6}], best)
    monkeypatch.setattr(cluster, "running", running)
    monkeypatch.setattr(cluster, "this_machine", lambda: room)
    monkeypatch.setattr(search, "run_sweep", lambda *_: found)
    monkeypatch.setattr(summary, "register_once", register)
    words = [*spelled(SMALL), "--run-name", "mine", "--storage", str(tmp_path), "--tracking-uri", tracking_uri]
    assert main(words) == 130
    assert "warning: 40% of the words or pixels come back from codes of trial 1, 60% from" in capsys.readouterr().out
    assert asked == [(tmp_path, 6, tracking_uri, "of ab_1")]
    record = run_record.read_record(tmp_path / "sweeps" / "mine" / "sweep.json")
    assert record is not None and connect(tracking_uri).get_run(record["run_id"]).info.status == "KILLED"
