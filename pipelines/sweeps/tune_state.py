"""Ray Tune's own files of a sweep: whether it can go on from them, and a copy of the last ones that were whole.

Ray copies them into the sweep's folder in place, so that a kill meanwhile, or a full disk, leaves them cut off. Going
on with such a sweep, Ray says so in its log alone and starts a search without its space.
"""

import contextlib
import json
import os
import pickletools
import zipfile
from pathlib import Path

from arae_core.data.atomic import replace_file_atomically, write_bytes_atomically

TRIALS = "experiment_state-{}.json"
"""Of each session (time of a start)."""
SEARCHES = (("basic-variant-state-{}.json",), ("search_gen_state-{}.json", "searcher-state-{}.pkl"))
"""What is to be tried yet: of random search, of any other. Ray cannot go on without it."""
PICKLES = (*(name for names in SEARCHES for name in names), "callback-states-{}.pkl")
"""Files that are pickles, whatever their names say."""
BACKUP = "tune_state.zip"


def back_up(staging: Path, folder: Path) -> None:
    """Copy Ray's files from where it wrote them, before it copies them itself, into one file of the sweep's folder.

    To be called between two steps of Tune, when nothing writes to `staging`. A copy that fails (a full disk) leaves
    the one of before, and the sweep goes on.
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
    """Remove what Ray brought there to go on from: it would copy all of it back every time, what is not its own too
    (the sweep's record), and a kill meanwhile would cut that off."""
    for file in staging.glob("*"):
        if file.is_file():
            file.unlink(missing_ok=True)


def can_go_on(folder: Path) -> bool:
    """Whether Ray can go on from what lies there, made sure of: files of a session that it cannot read are renamed,
    and replaced by the copy of them where there is one, or by those of the session before.

    False where nothing has come to a checkpoint yet, so that starting anew loses nothing. Raises ValueError where
    trials have run, and none of the files can be read.
    """
    cut_off = ""
    for session in reversed(_sessions(folder)):
        if _whole(folder, session) or (_from_backup(folder, session) and _whole(folder, session)):
            return True
        cut_off = cut_off or TRIALS.format(session)
        for file in _files(folder, session):
            os.replace(file, file.with_name(file.name + ".damaged"))
    if _from_backup(folder) and any(_whole(folder, session) for session in _sessions(folder)):
        return True
    if any(folder.glob("*/checkpoint_*")):
        raise ValueError(
            f"sweep {folder.name} cannot go on: what Ray Tune knew of its trials ({cut_off or TRIALS.format('*')} in "
            f"{folder}) is missing or cut off, and so is the copy of it, {BACKUP}; bring one of the two back, or start "
            "the sweep anew under another --run-name"
        )
    return False


def _sessions(folder: Path) -> list[str]:
    """The starts of a sweep, the last one last."""
    before, after = TRIALS.split("{}")
    return sorted(file.name[len(before) : -len(after)] for file in folder.glob(TRIALS.format("*")))


def _files(folder: Path, session: str) -> list[Path]:
    return [folder / name.format(session) for name in (TRIALS, *PICKLES) if (folder / name.format(session)).exists()]


def _whole(folder: Path, session: str) -> bool:
    """Whether Ray can read a session's files, and has a trial to go on with: it cannot without."""
    try:
        trials = json.loads((folder / TRIALS.format(session)).read_bytes())["trial_data"]
        for file in _files(folder, session)[1:]:
            for _ in pickletools.genops(file.read_bytes()):  # read to its end, and nothing in it run
                pass
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(trials) and any(all((folder / name.format(session)).exists() for name in names) for names in SEARCHES)


def _from_backup(folder: Path, session: str = "") -> bool:
    """Put the copy in place where there is one (of that session) that can be read; whether that was done."""
    try:
        with zipfile.ZipFile(folder / BACKUP) as archive:
            if session and TRIALS.format(session) not in archive.namelist():
                return False
            for name in archive.namelist():
                write_bytes_atomically(folder / name, archive.read(name))  # checked against its checksum
    except (OSError, zipfile.BadZipFile):
        return False
    return True
