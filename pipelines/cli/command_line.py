"""Command lines, exit statuses and JSON output of all commands.

Every setting of an Experiment is a flag under its dotted name. A command's `main` is `return run(body, arguments)`; its
body starts with `parse` (commands that train) or `parse_options` (the others). `run` prints one line for a ValueError,
which is a user mistake (exit status 2), and for a FailedError (exit status 1).
"""

import argparse
import errno
import json
import math
import os
import select
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from arae_core.settings.tree import flatten, with_settings
from pipelines.cli.flags import Option, peek, read_flags, setting_options, spelled
from pipelines.experiment.arguments import Arguments
from pipelines.experiment.environment import default_storage, default_tracking_uri, program
from pipelines.experiment.errors import FailedError
from pipelines.experiment.presets import PRESETS, preset
from pipelines.experiment.settings import Classification, warnings_for, why_without_effect

UNUSABLE = (errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EROFS)
"""Error numbers of a path that the user chose."""
FULL = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)
"""Error numbers of a full disk."""

__all__ = ["Arguments", "Option", "emit_json", "parse", "parse_options", "run", "show"]


def shared_options() -> tuple[Option, ...]:
    """Return the options of every command."""
    return (
        Option("tracking_uri", str, default_tracking_uri(), "MLflow server or database ($MLFLOW_TRACKING_URI)."),
        Option("storage", Path, default_storage(), "Folder for prepared data, runs and checkpoints ($ARAE_STORAGE)."),
        Option("json", bool, False, "Print the results as one JSON object on the last line of stdout."),
        Option("print_config", bool, False, "Print the configuration, one NAME = VALUE per line, and exit."),
    )


def parse(
    arguments: Sequence[str] | None,
    description: str,
    options: Sequence[Option] = (),
    config: str = "grammar",
    *,
    classification: bool = False,
) -> Arguments:
    """Parse the command line of a command that trains.

    config: the default preset. classification: return a Classification, with the settings of its classifier.

    Raise ValueError for user mistakes, and SystemExit(0) after --help and --print-config.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    choice = Option("config", str, config, "Preset to start from: " + ", ".join(PRESETS) + ".")
    name = peek(choice, words)
    experiment = preset(name)
    if classification:
        if not experiment.data.label and (column := peek(Option("data.label"), words)):
            experiment = with_settings(experiment, {"data.label": column})
        experiment = Classification.of(experiment)
    elif isinstance(experiment, Classification):
        raise ValueError(f"config {name} is for classify.py: its labels belong to pairs of sentences, not to sentences")
    groups: dict[str, Sequence[Option]] = {"command": (choice, *options, *shared_options())}
    for name, option in setting_options(experiment):
        groups[name] = (*groups.get(name, ()), option)
    values, chosen = read_flags(words, description, groups)
    given = {name: value for name, value in values.items() if name not in chosen}
    experiment = with_settings(experiment, given)
    for name in given:
        if why := why_without_effect(name, experiment):
            print(f"warning: {name} has no effect: {why}", file=sys.stderr)
    for warning in warnings_for(experiment):
        print(f"warning: {warning}", file=sys.stderr)
    if chosen.print_config:
        _print_config({**vars(chosen), **flatten(experiment)}, chosen.json)
    return Arguments(experiment, given, chosen, frozenset(values.keys() - given.keys()), tuple(words))


def parse_options(arguments: Sequence[str] | None, description: str, options: Sequence[Option]) -> argparse.Namespace:
    """Parse the command line of a command without an experiment. Raise as `parse` does."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _, chosen = read_flags(words, description, {"command": (*options, *shared_options())})
    if chosen.print_config:
        _print_config(vars(chosen), chosen.json)
    return chosen


def run(body: Callable[[Sequence[str] | None], object], arguments: Sequence[str] | None = None) -> int:
    """Call body(arguments); return the exit status: 0 success, 2 user mistake, 130 Ctrl-C, 1 any other error.

    A body that can be resumed raises KeyboardInterrupt(command), with the command that resumes it.
    """
    try:
        body(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk fails here, where it can be reported, instead of when Python exits
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (ValueError, FailedError) as error:
        if os.environ.get("ARAE_DEBUG"):
            traceback.print_exc()
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 1 if isinstance(error, FailedError) else 2
    except BrokenPipeError:
        if not _output_closed():
            traceback.print_exc()
        return 1
    except OSError as error:
        if error.errno not in UNUSABLE + FULL or os.environ.get("ARAE_DEBUG"):
            traceback.print_exc()
            return 1
        print("error:", f"{error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        if error.filename is None:
            _discard_output()
        return 1 if error.errno in FULL else 2
    except KeyboardInterrupt as interrupt:
        words = sys.argv[1:] if arguments is None else arguments
        again = f"to continue: {interrupt}" if str(interrupt) else f"to start again: {shlex.join([*program(), *words])}"
        print(f"\ninterrupted; {again}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("arae_core", "pipelines", "tune_spaces"):
            raise
        print(
            f'error: {error.name} is not installed for {sys.executable}; run `pip install "arae[pipelines]"`, or in a '
            "checkout `make setup`, which creates .venv, and use .venv/bin/python",
            file=sys.stderr,
        )
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _output_closed() -> bool:
    """Return True if the reader of stdout is gone, as after `command | head`, and discard the remaining output."""
    stdout = select.poll()
    stdout.register(1, select.POLLOUT)
    closed = any(event & select.POLLERR for _, event in stdout.poll(0))
    if closed:
        _discard_output()
    return closed


def _discard_output() -> None:
    """Send buffered output to /dev/null: otherwise Python would fail again when it flushes stdout at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def emit_json(results: Mapping[str, Any]) -> None:
    """Print the results as one line of JSON, with null for NaN and infinities. Call it last: --json promises so."""
    print(json.dumps(_plain(results), default=str, allow_nan=False), flush=True)


def show(report: Mapping[str, Any], table: Callable[[Any], str], options: argparse.Namespace) -> None:
    """Print a report: as JSON with --json, else as the text that `table` returns."""
    if options.json:
        emit_json(report)
    else:
        print(table(report))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_config(values: Mapping[str, Any], as_json: bool) -> NoReturn:
    values = {name: value for name, value in values.items() if name not in ("print_config", "json")}
    if as_json:
        emit_json(values)
    else:
        print("\n".join(f"{name} = {spelled(value)}" for name, value in values.items()), flush=True)
    raise SystemExit(0)
