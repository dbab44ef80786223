"""Resuming a sweep: which settings must be unchanged, which may differ, and where MLflow and the data are."""

import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli.command_line import parse
from pipelines.corpora.corpus import Corpus
from pipelines.runtime import cluster, run_lock
from pipelines.runtime.cluster import Room
from pipelines.runtime.run_record import Record, read_record, write_record
from pipelines.sweeps.sweep import Sweep, open_sweep, resume_command
from pipelines.tracking.store import connect
from pipelines.training.resources import WorkerResources
from pipelines.tune import OPTIONS
from tests.pipelines.small import RATES, SMALL, Make
from tests.pipelines.test_train import spelled

Open = Callable[..., Sweep]


ROOM = Room(7, 0, 7, 0, attached=False)


@pytest.fixture
def reopen(corpus: Corpus, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    """reopen("--resume", "mine"): open a sweep with these words, after the sweep "mine" of four trials was opened."""
    monkeypatch.setattr(cluster, "this_machine", lambda: Room(8, 0, 8, 0, attached=False))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(corpus.folder, tmp_path / "data" / corpus.folder.name)

    def typed(*words: str) -> Sweep:
        sweep = open_sweep(parse([*words, "--storage", str(tmp_path)], "", OPTIONS), tmp_path)
        assert sweep.session is not None
        sweep.session.release()
        return sweep

    typed(*MINE, "--tracking-uri", tracking_uri)
    return typed


MINE = [*spelled(SMALL), "--trials", "4", "--run-name", "mine"]


@pytest.fixture
def record(reopen: Open, tmp_path: Path) -> Callable[..., Record]:
    """record(name=value): change the record of the sweep "mine", and return it."""

    def change(**values: Any) -> Record:
        file = tmp_path / "sweeps" / "mine" / "sweep.json"
        found = read_record(file)
        assert found is not None
        write_record(file, found | values)
        return found | values

    return change


def test_a_resumed_sweep_has_its_settings_and_its_run(reopen: Open, corpus: Corpus, tracking_uri: str) -> None:
    sweep = reopen("--resume", "mine")
    assert (sweep.options["trials"], sweep.experiment.batch_size, sweep.tracking_uri) == (4, 14, tracking_uri)
    client = connect(tracking_uri)
    run = client.get_run(sweep.run_id)
    assert run.info.run_name == "mine"
    assert (run.data.tags["data_fingerprint"], run.data.tags["command"]) == (corpus.fingerprint, "tune")
    assert (run.data.params["trials"], run.data.params["batch_size"]) == ("4", "14")
    client.update_run(sweep.run_id, status="KILLED", name="the best one yet")
    same = ["--trials", "4", "--scheduler", "asha", "--config", "grammar", "--run-name", "mine", "--space", "stability"]
    assert reopen("--resume", "mine", *same) == sweep, "also after it was renamed"
    (run,) = client.search_runs(["1"])
    assert (run.info.run_id, run.info.status) == (sweep.run_id, "RUNNING")


def test_a_sweep_in_use_cannot_be_opened(reopen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    release = run_lock.acquire(tmp_path / "sweeps" / "mine", "sweep mine")
    for words in (["--resume", "mine"], MINE):
        with pytest.raises(ValueError, match=r"sweep mine is .* process"):
            reopen(*words)
    release()
    assert reopen("--resume", "mine").name == "mine"


def test_resume_refuses_other_settings_data_and_unreadable_state(
    reopen: Open, record: Callable[..., Record], tmp_path: Path
) -> None:
    for words, message in (
        (["--trials", "20"], "--trials, which was 4 and is 20"),
        (["--scheduler", "pbt"], "--scheduler, which was 'asha' and is 'pbt'"),
        (["--max-concurrent", "2"], "--max-concurrent, which was 0 and is 2"),
        (["--config", "digits"], "--config, which was 'grammar' and is 'digits'"),
        (["--run-name", "other"], "--run-name, which was 'mine' and is 'other'"),
        (["--max-failures", "7"], "--max_failures"),
        (["--workers", "2"], "workers must be 1 in sweep mine, .* got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            reopen("--resume", "mine", *words)
    checkpoint = tmp_path / "sweeps" / "mine" / "ab_00000" / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    with pytest.raises(ValueError, match="sweep mine cannot be resumed"):
        reopen("--resume", "mine")
    checkpoint.rmdir()
    assert reopen("--resume", "mine").name == "mine"
    record(data_fingerprint="0123456789abcdef")  # that corpus is not in the storage, and prepared anew it is another
    with pytest.raises(ValueError, match="data_fingerprint was '0123456789abc"):
        reopen("--resume", "mine")


def test_the_number_of_workers_may_change(reopen: Open) -> None:
    many = [*spelled(SMALL), "--trials", "4", "--run-name", "many"]
    reopen(*many, "--workers", "2")
    assert reopen("--resume", "many", "--workers", "4").experiment.workers == 4
    assert reopen("--resume", "many").experiment.workers == 4
    assert reopen(*many, "--workers", "3").experiment.workers == 3
    with pytest.raises(ValueError, match=r"workers must be 2 or more in sweep many, .* got 1"):
        reopen(*many)
    with pytest.raises(ValueError, match="max_failures was 3 and is 7"):
        reopen(*many, "--workers", "3", "--max-failures", "7")


def test_mlflow_may_move(
    reopen: Open, empty_database: Path, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = f"sqlite:///{empty_database}"
    with pytest.raises(ValueError, match=f"{elsewhere} does not have run .* it was at {tracking_uri}"):
        reopen("--resume", "mine", "--tracking-uri", elsewhere)
    moved = tmp_path / "moved.db"
    shutil.move(tmp_path / "mlflow.db", moved)
    with pytest.raises(ValueError, match=f"{tracking_uri} does not have run .* of sweep mine"):
        reopen("--resume", "mine")
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}")
    assert reopen("--resume", "mine").tracking_uri == f"sqlite:///{moved}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert reopen("--resume", "mine").tracking_uri == f"sqlite:///{moved}", "recorded"
    shutil.move(moved, tmp_path / "mlflow.db")
    assert reopen("--resume", "mine", "--tracking-uri", "sqlite:///mlflow.db").tracking_uri == tracking_uri


def test_records_of_an_earlier_version(reopen: Open, record: Callable[..., Record]) -> None:
    """Settings have new names since. Choices that are tuples are stored as lists."""
    settings = record()["settings"]
    for name in ("prior.kind", "code.kind"):
        del settings[name]
    old = {"generator.kind": "learned", "code.unit_sphere": False}
    domain = ("choice", [(300,), (300, 300)])
    space = {"critic.hidden": domain, "code.noise": ("uniform", 0.1, 0.2)}
    record(settings=settings | old, space=space)
    with pytest.raises(ValueError, match=r"code\.kind was 'euclidean' and is 'sphere'"):
        reopen(*MINE)
    for words in (["--resume", "mine"], [*MINE, "--code.kind", "euclidean"]):
        sweep = reopen(*words)
        assert (sweep.experiment.code.kind, sweep.experiment.prior.kind) == ("euclidean", "auto")
        assert sweep.space == space
    assert record()["settings"].keys() == settings.keys() | {"prior.kind", "code.kind"}, "stored under today's names"
    record(space={"code.unit_sphere": ("choice", [True, False])})
    with pytest.raises(ValueError, match=r"sweep mine searches code\.unit_sphere"):
        reopen("--resume", "mine")


def test_the_workers_of_a_trial_share_its_gpus(make_sweep: Make) -> None:
    sweep = make_sweep(RATES, 1, {"workers": 2}, gpus_per_trial=4.0)
    assert sweep.resources(Room(8, 4, 8, 4, attached=True)) == WorkerResources(2, 1.0, 2.0)


def test_a_private_cluster_has_drivers_and_a_dashboard_if_needed(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers for trials of several workers, and the dashboard if such a trial may be stopped."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "this_machine", lambda: ROOM)
    sweeps = {
        (workers, scheduler): make_sweep(RATES, 5, {"workers": workers}, scheduler=scheduler)
        for workers in (1, 2)
        for scheduler in ("none", "asha", "pbt")
    }
    assert [key for key, sweep in sweeps.items() if sweep.needs_dashboard] == [(2, "asha"), (2, "pbt")]
    assert [key for key, sweep in sweeps.items() if sweep.plan(ROOM).exchanged] == [(1, "pbt"), (2, "pbt")]
    assert {workers: sweeps[workers, "asha"].drivers for workers in (1, 2)} == {1: 0, 2: 3}
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert sweeps[2, "asha"].drivers == 0


def test_concurrent_trials(make_sweep: Make) -> None:
    for trials, most, expected in ((5, 0, 5), (11, 0, 7), (11, 3, 3), (2, 3, 2), (11, 13, 7)):
        assert make_sweep(RATES, trials, max_concurrent=most).concurrent_trials(ROOM) == expected


def test_the_resume_command_names_everything_but_defaults(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    for json in (False, True):
        command = resume_command("sweep", tracking_uri, Namespace(storage=Path("a folder"), json=json))
        known = f" --resume sweep --storage 'a folder' --tracking-uri {tracking_uri}"
        assert command.endswith(known + (" --json" if json else ""))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    command = resume_command("sweep", tracking_uri, Namespace(storage=Path("runs"), json=False))
    assert command.endswith(" --resume sweep --storage runs")
