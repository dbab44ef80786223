"""tune.py end to end: a sweep that is killed and resumes, Ctrl-C, and a Ray job."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipelines.runtime.cluster import free_port
from pipelines.tune import main
from tests.pipelines.small import SMALL
from tests.pipelines.test_train import ROOT, command, spelled, wait_for


def test_an_unknown_sweep_lists_the_existing_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.runtime.run_record import write_record

    for name in ("one", "two"):
        write_record(tmp_path / "sweeps" / name / "sweep.json", {})
    assert main(["--storage", str(tmp_path), "--resume", "three"]) == 2
    assert "there are: one, two" in capsys.readouterr().err
    assert main(["--storage", str(tmp_path), "--resume", "one", "--seed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err


def runs(tracking_uri: str) -> list[Any]:
    from pipelines.tracking.store import connect

    client = connect(tracking_uri)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.trial_id LIKE '%'"))


def test_trials_of_an_interrupted_sweep_are_ended(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also trials that Ray Tune has not reported. The registered model belongs to the best trial's run."""
    from pipelines.reporting import summary
    from pipelines.runtime import cluster
    from pipelines.runtime.run_record import read_record
    from pipelines.sweeps import search
    from pipelines.tracking.runs import start_or_resume_child
    from pipelines.tracking.store import connect

    room, registered = cluster.Room(2, 0, 2, 0, attached=False), list[Any]()

    def run_sweep(sweep: Any, *_: object) -> search.SweepResult:
        start_or_resume_child(tracking_uri, "arae-grammar", sweep.run_id, "ab_00000", params={})
        best: dict[str, Any] = {"trial": "ab_1", "state": "done", "step": 6, "end": 24, "generation_perplexity": 3.0}
        best |= {"run_id": "of ab_1", "checkpoint": tmp_path, "validation_accuracy": 0.4}
        return search.SweepResult([best, {"trial": "ab_0", "state": "done", "validation_accuracy": 0.6}], best)

    def register(_: object, checkpoint: Path, metrics: Any, uri: str, run_id: str, *__: object) -> None:
        registered.append((checkpoint, metrics["step"], uri, run_id))
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "running", lambda **_: nullcontext(room))
    monkeypatch.setattr(cluster, "this_machine", lambda: room)
    monkeypatch.setattr(search, "run_sweep", run_sweep)
    monkeypatch.setattr(summary, "register_once", register)
    words = [*spelled(SMALL), "--run-name", "mine", "--storage", str(tmp_path), "--tracking-uri", tracking_uri]
    assert main(words) == 130
    out, err = capsys.readouterr()
    assert f"--resume mine --storage {tmp_path} --tracking-uri {tracking_uri}" in err
    assert re.search("warning: trial 1 .* 40% .* trial 0 .* 60%", " ".join(out.split()))
    assert registered == [(tmp_path, 6, tracking_uri, "of ab_1")]
    assert [run.info.status for run in runs(tracking_uri)] == ["KILLED"]
    record = read_record(tmp_path / "sweeps" / "mine" / "sweep.json")
    assert record is not None and connect(tracking_uri).get_run(record["run_id"]).info.status == "KILLED"


@pytest.mark.fault
def test_a_killed_sweep_resumes(tmp_path: Path, tracking_uri: str) -> None:
    """SIGKILL after a finished trial is recorded: --resume does not repeat it, and finishes all others."""
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
def test_a_sweep_resumes_after_ctrl_c(tmp_path: Path, tracking_uri: str) -> None:
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
    """A sweep submitted with `ray job submit` joins that cluster."""
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
        for _ in range(60):  # the dashboard answers before its job agent has started
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
