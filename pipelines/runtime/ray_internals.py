"""Private and undocumented behaviour of Ray that this project relies on, as of Ray 2.60.

Review this file, and pipelines/sweeps/tune_state.py, which knows the files of Ray Tune's state, at every upgrade of
Ray. Nothing here imports Ray before it is called.
"""

import copy
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.experiment.errors import FailedError

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise every worker without a GPU warns
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # ray.train.report() waits for this poll: 2 s a call by default
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",  # delay before a training hears that a node is about to go; default 5
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # seconds of a killed sweep that are forgotten; 10 or more by default
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # otherwise the line above triggers a warning
    # Threads that spin while they wait take 30 times as long on a machine with other work.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables at every verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # curves are in MLflow
}
"""Defaults for the driver's environment, which the processes of a private cluster inherit. The user's values win."""
WORKER_ENVIRONMENT = ("OMP_WAIT_POLICY", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
"""Variables of ENVIRONMENT that workers on a cluster started by others must be given explicitly."""
STARTUP_TIMEOUT = "timed out during startup"
"""Ray's message when its own processes have not answered for 30 seconds, a limit that cannot be configured."""
RESULT_FIELDS = frozenset(
    {
        *("timestamp", "checkpoint_dir_name", "done", "training_iteration", "trial_id", "date", "time_this_iter_s"),
        *("pid", "time_total_s", "hostname", "node_ip", "config", "time_since_restore", "iterations_since_restore"),
        *("experiment_tag", "should_checkpoint"),
    }
)
"""Fields that Ray Tune adds to every reported result."""
TRAIN_SNAPSHOT = "checkpoint_manager_snapshot.json"
"""File of a Ray Train run that names the checkpoints it knows."""


def set_environment(attached: bool = False) -> None:
    """Set ENVIRONMENT where the user has set nothing. attached: the cluster was started by others."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # One process for each training, which watches for nodes about to go. A private cluster has one node.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", str(int(attached)))


def init_with_retry(**options: Any) -> None:
    """Call ray.init, and once more if Ray gives up on itself after 30 seconds, as it does on a busy machine.

    Raise FailedError if it gives up again.
    """
    import ray
    from ray._private.node import Node

    try:
        ray.init(**options)
    except Exception as error:
        if STARTUP_TIMEOUT not in str(error):
            raise
        print("Ray did not start within 30 seconds; is this machine busy? Trying once more.", file=sys.stderr)
        # The processes started so far would live as long as this one. Only the failed Node knows them, and nothing but
        # the traceback refers to it.
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if isinstance(node := frame.f_locals.get("self"), Node):
                node.kill_all_processes(check_alive=False, allow_graceful=True)
                break
        try:
            ray.init(**options)
        except Exception as second:
            if STARTUP_TIMEOUT not in str(second):
                raise
            raise FailedError(
                "Ray failed twice to start within 30 seconds: this machine is too busy; run the same command later"
            ) from second


@contextmanager
def private_cluster_environment(packages: Path, dashboard: str) -> Iterator[None]:
    """Environment that the processes of a private cluster inherit while it starts.

    packages: folder of this project's packages, put on PYTHONPATH. dashboard: the cluster's own dashboard, or an
    address where nothing answers. Without it, Ray Train's placement group cleaner asks the dashboard of any other
    cluster on the machine for its controller, does not find it, and kills the workers.
    """
    path = os.environ.get("PYTHONPATH")
    changed = {
        "PYTHONPATH": os.pathsep.join([str(packages), *([path] if path else [])]),
        "RAY_API_SERVER_ADDRESS": dashboard,
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def session_folder() -> Iterator[str]:
    """A folder for the private cluster's session, deleted afterwards.

    Ray creates its sockets below it. The path of a socket has at most 107 characters, so a long $TMPDIR is not used.
    """
    folder = tempfile.mkdtemp(prefix="arae-", dir="/tmp" if os.path.isdir("/tmp") else None)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inside_job() -> bool:
    """True in the driver of `ray job submit`, which sets the runtime environment, and with it the working directory."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def without_cleaner(trainer: type) -> type:
    """Return a subclass of TorchTrainer that does not start PlacementGroupCleaner.

    The cleaner frees the resources of dead controllers. On a busy machine it takes a slow controller for dead and kills
    its workers. A private cluster ends with its driver and leaves nothing to clean up.
    """

    class WithoutCleaner(trainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [callback for callback in callbacks if type(callback).__name__ != "PlacementGroupCleanerCallback"]

    return WithoutCleaner


def release_resources() -> None:
    """Remove the placement groups of this driver, which a lost training controller leaves behind for a long time.

    The id of a placement group ends with the job id of its driver.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    for name, group in placement_group_table().items():
        if group["state"] != "REMOVED" and name.endswith(job):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))


def drop_unfinished(folder: Path) -> None:
    """Delete a Ray Train run's checkpoints that were being written when its process or its disk failed.

    Ray Train has not recorded them in TRAIN_SNAPSHOT, and would leave them in `folder`.
    """
    snapshot = folder / TRAIN_SNAPSHOT
    known = snapshot.read_text(encoding="utf-8") if snapshot.exists() else ""
    for checkpoint in folder.glob("checkpoint_*/"):
        if checkpoint.name not in known:
            shutil.rmtree(checkpoint, ignore_errors=True)


def last_result(trial: Any) -> dict[str, Any]:
    """Return the last result of a Ray Tune trial, or {}.

    Unlike `trial.last_result`, this does not wait for a trial that is still starting.
    """
    return dict(trial.run_metadata.last_result or {})


def drop_statistics(trial: Any) -> None:
    """Free the statistics that Ray Tune keeps of every metric: most of the memory of a trial that has ended."""
    for statistics in (trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps):
        statistics.clear()


def tune_folders(trial: Any) -> tuple[Path, Path]:
    """Return the folder where Ray Tune writes the state of the trial's sweep, and the one it copies the state to."""
    return Path(trial.storage.experiment_driver_staging_path), Path(trial.storage.experiment_fs_path)


def asha_rungs(scheduler: Any) -> dict[str, dict[str, float]]:
    """Return the live rungs of an ASHAScheduler with one bracket: step -> trial id -> score, higher is better."""
    return {str(step): scores for step, scores in scheduler._brackets[0]._rungs}


def skip_passed_rungs(scheduler: Any, trial_id: str, step: int) -> None:
    """Compare a trial of an ASHAScheduler only at rungs after `step`.

    The trial gets a bracket of its own whose rungs share their scores with all others.
    """
    bracket = copy.copy(scheduler._trial_info[trial_id])
    bracket._rungs = [(at, scores) for at, scores in bracket._rungs if at > step]
    scheduler._trial_info[trial_id] = bracket
