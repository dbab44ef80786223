"""Ray Tune's own files of a sweep: a check that Ray can resume from them, and a backup of the last complete ones.

Ray copies them into the sweep's folder in place, so a kill during the copy, or a full disk, cuts them off. It then
resumes with a search that has lost its space, and mentions that in its log only.
"""

import contextlib
import json
import os
import pickletools
import zipfile
from pathlib import Path

from arae_core.data.atomic import replace_file_atomically, write_bytes_atomically

TRIALS = "experiment_state-{}.json"
"""File of the trials in each session; a session is named by the time of its start."""
SEARCHES = (("basic-variant-state-{}.json",), ("search_gen_state-{}.json", "searcher-state-{}.pkl"))
"""Files of the search: of random search, of any other. Ray cannot resume without them."""
PICKLES = (*(name for names in SEARCHES for name in names), "callback-states-{}.pkl")
"""Files that are pickles, whatever their extension."""
BACKUP = "tune_state.zip"


def back_up(staging: Path, folder: Path) -> None:
    """Zip Ray's files from its staging folder, before Ray itself copies them, into one file of the sweep's folder.

    Call it between two steps of Tune, when nothing writes to `staging`. A copy that fails (a full disk) leaves the
    previous one, and the sweep continues.
    """
    sessions = _sessions(staging)
    if not sessions:
        return
    with (
        contextlib.suppress(OSError),
        replace_file_atomically(folder / BACKUP) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in _files(staging, sessions[-1]):
            archive.write(file, file.name)


def clear_staging(staging: Path) -> None:
    """Delete the files that Ray brought to `staging` to resume from.

    Ray would copy all of them back every time, also the sweep's record, and a kill during the copy would cut it off.
    """
    for file in staging.glob("*"):
        if file.is_file():
            file.unlink(missing_ok=True)


def can_resume(folder: Path) -> bool:
    """Return True if Ray can resume from the sweep's folder, after repairing it.

    Files of a session that cannot be read are renamed, and replaced by their backup or by the previous session. Returns
    False if no trial has come to a checkpoint, so that nothing is lost by starting anew. Raise ValueError if trials
    have run and no session can be read.
    """
    damaged = ""
    for session in reversed(_sessions(folder)):
        if _is_complete(folder, session) or (_restore_backup(folder, session) and _is_complete(folder, session)):
            return True
        damaged = damaged or TRIALS.format(session)
        for file in _files(folder, session):
            os.replace(file, file.with_name(file.name + ".damaged"))
    if _restore_backup(folder) and any(_is_complete(folder, session) for session in _sessions(folder)):
        return True
    if any(folder.glob("*/checkpoint_*")):
        raise ValueError(
            f"sweep {folder.name} cannot be resumed: Ray Tune's state ({damaged or TRIALS.format('*')} in {folder}) "
            f"and its backup ({BACKUP}) are missing or damaged; restore one of them, or start the sweep anew under "
            "another --run-name"
        )
    return False


def _sessions(folder: Path) -> list[str]:
    """Return the sessions of a sweep, the last one last."""
    before, after = TRIALS.split("{}")
    return sorted(file.name[len(before) : -len(after)] for file in folder.glob(TRIALS.format("*")))


def _files(folder: Path, session: str) -> list[Path]:
    return [folder / name.format(session) for name in (TRIALS, *PICKLES) if (folder / name.format(session)).exists()]


def _is_complete(folder: Path, session: str) -> bool:
    """Return True if Ray can read the files of a session and there is a trial, without which it cannot resume."""
    try:
        trials = json.loads((folder / TRIALS.format(session)).read_bytes())["trial_data"]
        for file in _files(folder, session)[1:]:
            for _ in pickletools.genops(file.read_bytes()):  # parses the pickle to its end and executes nothing
                pass
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(trials) and any(all((folder / name.format(session)).exists() for name in names) for names in SEARCHES)


def _restore_backup(folder: Path, session: str = "") -> bool:
    """Extract the backup (if it is of that session); return True if there was one that can be read."""
    try:
        with zipfile.ZipFile(folder / BACKUP) as archive:
            if session and TRIALS.format(session) not in archive.namelist():
                return False
            for name in archive.namelist():
                write_bytes_atomically(folder / name, archive.read(name))  # `read` verifies the checksum
    except (OSError, zipfile.BadZipFile):
        return False
    return True
