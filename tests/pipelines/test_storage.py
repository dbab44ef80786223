"""A disk that fills up or turns read-only during training: each test mounts a file system of its own."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.pipelines.test_train import ROOT

MOUNT = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
"""Some containers allow a mount name space of their own, but no mount in it."""
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(MOUNT, capture_output=True).returncode != 0,
    reason="only root may mount a file system",
)
SMALL = [
    *("--data.size", "3000", "--iterations", "120", "--evaluate-every", "20", "--log-every", "20", "--samples", "50"),
    *("--encoder.hidden", "32", "--decoder.hidden", "32", "--code.size", "32", "--generator.hidden", "32"),
    *("--critic.hidden", "32", "--critic.steps", "1", "--max-failures", "0", "--run-name", "mine"),
]
ONCE_TRAINED = 'while ! grep -q "^step 40/" "$LOG"; do sleep 0.1; done'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "meanwhile", "repair", "message"),
    [
        # room for two checkpoints of 1.1 MB, not for three
        ("2700k", "true", "size=100m", "No space left on device"),
        ("100m", f'{ONCE_TRAINED}; mount -o remount,ro "$DISK"', "rw", "Read-only file system"),
    ],
)
def test_a_training_resumes_when_the_disk_is_writable_again(
    size: str, meanwhile: str, repair: str, message: str, tmp_path: Path
) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    words = [sys.executable, str(ROOT / "pipelines" / "train.py"), *SMALL, "--storage", str(disk)]
    command = shlex.join([*words, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"])
    script = f"""
        mount -t tmpfs -o size={size} none "$DISK"
        touch "$LOG"
        ({meanwhile}) &
        {command} > "$LOG" 2>&1
        echo "first ended with $?"
        find "$DISK" -name manifest.json | wc -l
        mount -o remount,{repair} "$DISK"
        {command} 2>&1
        echo "second ended with $?"
        cd "$DISK"/trainings/mine
        for each in checkpoint_2*; do grep -q "$each" checkpoint_manager_snapshot.json || echo "$each is left"; done
    """
    environment = {**os.environ, "DISK": str(disk), "LOG": str(log)}
    run = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script], env=environment, capture_output=True, text=True, timeout=1100
    )
    assert run.returncode == 0, run.stderr
    first = log.read_text()
    errors = [line for line in first.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], first
    assert errors[0].startswith("error: training failed: ") and "repeat the command" in errors[0]
    assert "first ended with 1" in run.stdout
    assert "resuming run mine" in run.stdout and "second ended with 0" in run.stdout, run.stdout
    steps = [int(step) for step in re.findall(r"^step (\d+)/120", run.stdout, re.MULTILINE)]
    assert steps[0] >= 40 and steps[-1] == 120
    assert "is left" not in run.stdout
