"""A sweep that is gone on with: what has to be as it was, what may be otherwise, and what is looked for where."""

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
from pipelines.runtime.run_record import read_record, write_record
from pipelines.sweeps.sweep import Sweep, open_sweep, resume_command
from pipelines.tracking.store import connect
from pipelines.training.trainer import Share
from pipelines.tune import OPTIONS
from tests.pipelines.small import RATES, SMALL, Make
from tests.pipelines.test_train import spelled

Open = Callable[..., Sweep]


@pytest.fixture
def reopen(corpus: Corpus, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    """reopen("--resume", "mine"): the sweep "mine" of four trials has been started, and this is typed."""
    monkeypatch.setattr(cluster, "this_machine", lambda: cluster.Room(8, 0, 8, 0, attached=False))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(corpus.folder, tmp_path / "data" / corpus.folder.name)

    def typed(*words: str) -> Sweep:
        sweep = open_sweep(parse([*words, "--storage", str(tmp_path)], "", OPTIONS), tmp_path)
        assert sweep.session is not None
        sweep.session.release()
        return sweep

    typed(*spelled(SMALL), "--trials", "4", "--run-name", "mine", "--tracking-uri", tracking_uri)
    return typed


def change(sweep_file: Path, **values: Any) -> None:
    record = read_record(sweep_file)
    assert record is not None
    write_record(sweep_file, {**record, **values})


def test_it_is_as_it_was(reopen: Open, tracking_uri: str) -> None:
    sweep = reopen("--resume", "mine")
    assert (sweep.options["trials"], sweep.experiment.batch_size, sweep.tracking_uri) == (4, 14, tracking_uri)
    assert connect(tracking_uri).get_run(sweep.run_id).info.run_name == "mine"
    same = ["--trials", "4", "--scheduler", "asha", "--config", "grammar", "--run-name", "mine", "--space", "stability"]
    assert reopen("--resume", "mine", *same) == sweep


def test_one_that_is_being_worked_on_is_left_alone(
    reopen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.05)
    release = run_lock.acquire(tmp_path / "sweeps" / "mine", "sweep mine")
    for words in (["--resume", "mine"], [*spelled(SMALL), "--trials", "4", "--run-name", "mine"]):
        with pytest.raises(ValueError, match="sweep mine is being worked on by process"):
            reopen(*words)
    release()
    assert reopen("--resume", "mine").name == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "20"], "leave out --trials, which was 4 and is 20"),
        (["--scheduler", "pbt"], "leave out --scheduler, which was 'asha' and is 'pbt'"),
        (["--max-concurrent", "2"], "leave out --max-concurrent, which was 0 and is 2"),
        (["--config", "digits"], "leave out --config, which was 'grammar' and is 'digits'"),
        (["--run-name", "other"], "leave out --run-name, which was 'mine' and is 'other'"),
        (["--max-failures", "7"], "leave out --max_failures"),
        (["--workers", "2"], "workers must be 1 in sweep mine, as when it began, got 2"),
    ],
)
def test_what_is_not_as_it_was_is_refused(reopen: Open, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reopen("--resume", "mine", *words)


def test_the_number_of_workers_may_change(reopen: Open, tmp_path: Path) -> None:
    many = [*spelled(SMALL), "--trials", "4", "--run-name", "many"]
    reopen(*many, "--workers", "2")
    assert reopen("--resume", "many", "--workers", "4").experiment.workers == 4
    assert reopen("--resume", "many").experiment.workers == 4
    assert reopen(*many, "--workers", "3").experiment.workers == 3
    with pytest.raises(ValueError, match="workers must be 2 or more in sweep many, as when it began, got 1"):
        reopen(*many)
    with pytest.raises(ValueError, match="max_failures was 3 and is 7"):
        reopen(*many, "--workers", "3", "--max-failures", "7")


def test_mlflow_is_where_the_user_says(
    reopen: Open, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved.db"
    shutil.move(tmp_path / "mlflow.db", moved)
    with pytest.raises(ValueError, match=f"{tracking_uri} does not have run .* of sweep mine; bring it back, or start"):
        reopen("--resume", "mine")
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}")
    assert reopen("--resume", "mine").tracking_uri == f"sqlite:///{moved}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert reopen("--resume", "mine").tracking_uri == f"sqlite:///{moved}"  # written down
    shutil.move(moved, tmp_path / "mlflow.db")
    sweep = reopen("--resume", "mine", "--tracking-uri", "sqlite:///mlflow.db")
    assert sweep.tracking_uri == tracking_uri


def test_mlflow_that_does_not_have_the_sweep_is_refused(reopen: Open, empty_database: Path, tracking_uri: str) -> None:
    elsewhere = f"sqlite:///{empty_database}"
    with pytest.raises(ValueError, match=f"{elsewhere} does not have run .* it was at {tracking_uri}: leave out"):
        reopen("--resume", "mine", "--tracking-uri", elsewhere)
    assert reopen("--resume", "mine").tracking_uri == tracking_uri


def test_a_run_that_was_renamed_is_the_same(reopen: Open, tracking_uri: str) -> None:
    run_id = reopen("--resume", "mine").run_id
    connect(tracking_uri).update_run(run_id, status="KILLED", name="the best one yet")
    assert reopen("--resume", "mine").run_id == run_id
    (run,) = connect(tracking_uri).search_runs(["1"])
    assert (run.info.run_id, run.info.status) == (run_id, "RUNNING")


def test_other_data_are_refused(reopen: Open, tmp_path: Path) -> None:
    """Those prepared are gone, and what is prepared anew is something else."""
    file = tmp_path / "sweeps" / "mine" / "sweep.json"
    change(file, data_fingerprint="0123456789abcdef")
    with pytest.raises(ValueError, match="sweep mine exists with other settings: data_fingerprint was '0123456789abc"):
        reopen("--resume", "mine")


def test_state_that_cannot_be_read_is_told_before_ray_starts(reopen: Open, tmp_path: Path) -> None:
    (tmp_path / "sweeps" / "mine" / "ab_00000" / "checkpoint_000000").mkdir(parents=True)
    with pytest.raises(ValueError, match="sweep mine cannot go on"):
        reopen("--resume", "mine")


def test_choices_that_are_tuples_come_back(reopen: Open, tmp_path: Path) -> None:
    file = tmp_path / "sweeps" / "mine" / "sweep.json"
    domain = ("choice", [(300,), (300, 300)])
    change(file, space={"critic.hidden": domain, "code.noise": ("uniform", 0.1, 0.2)})
    assert reopen("--resume", "mine").space == {"critic.hidden": domain, "code.noise": ("uniform", 0.1, 0.2)}


def test_the_gpus_of_a_trial_are_its_workers_in_equal_parts(make_sweep: Make) -> None:
    sweep = make_sweep(RATES, 1, {"workers": 2}, gpus_per_trial=4.0)
    assert sweep.share(Room(8, 4, 8, 4, attached=True)) == Share(2, 1.0, 2.0)


def test_what_a_cluster_of_its_own_needs_beside_cpus(make_sweep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the drivers of trials of several workers, and the dashboard where one may be stopped."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "this_machine", lambda: Room(7, 0, 7, 0, attached=False))
    needs = {
        (workers, scheduler): make_sweep(RATES, 5, {"workers": workers}, scheduler=scheduler)
        for workers in (1, 2)
        for scheduler in ("none", "asha", "pbt")
    }
    assert [key for key, sweep in needs.items() if sweep.needs_dashboard] == [(2, "asha"), (2, "pbt")]
    assert {workers: needs[workers, "asha"].drivers for workers in (1, 2)} == {1: 0, 2: 3}
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert needs[2, "asha"].drivers == 0, "theirs is what it is"


@pytest.mark.parametrize(("trials", "most", "fit"), [(5, 0, 5), (11, 0, 7), (11, 3, 3), (2, 3, 2), (11, 13, 7)])
def test_as_many_trials_at_once_as_fit_and_are_asked_for(trials: int, most: int, fit: int, make_sweep: Make) -> None:
    assert make_sweep(RATES, trials, max_concurrent=most).at_once(Room(7, 0, 7, 0, attached=False)) == fit


def test_only_of_a_population_trials_go_on_from_each_other(make_sweep: Make) -> None:
    room = Room(7, 0, 7, 0, attached=False)
    exchanged = {name: make_sweep(RATES, 3, scheduler=name).plan(room).exchanged for name in ("none", "asha", "pbt")}
    assert exchanged == {"none": False, "asha": False, "pbt": True}


def test_resume_command_names_what_is_not_the_default(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    for json in (False, True):
        again = resume_command("sweep", tracking_uri, Namespace(storage=Path("a folder"), json=json))
        known = f" pipelines/tune.py --resume sweep --storage 'a folder' --tracking-uri {tracking_uri}"
        assert again.endswith(known + (" --json" if json else ""))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    again = resume_command("sweep", tracking_uri, Namespace(storage=Path("runs"), json=False))
    assert again.endswith(" --resume sweep --storage runs")


def test_the_run_of_a_sweep_says_of_which_data_it_is(reopen: Open, corpus: Corpus, tracking_uri: str) -> None:
    run = connect(tracking_uri).get_run(reopen("--resume", "mine").run_id)
    assert (run.data.tags["data_fingerprint"], run.data.tags["command"]) == (corpus.fingerprint, "tune")
    assert (run.data.params["trials"], run.data.params["batch_size"]) == ("4", "14")
