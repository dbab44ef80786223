"""Data sources: a folder, a file or a data set on the hub.

Images and data sets on the hub are read with Hugging Face datasets, text in files without, see tables/. Files are
found and checked without importing datasets, so data that is prepared already does not cost that import.
"""

import hashlib
import logging
import os
import re
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.corpora.tables import Columns, Rows, arrow_rows
from pipelines.corpora.text_files import blocks, check_utf8

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
FORMATS = ".parquet, .jsonl, .json, .csv or .txt"
READER = 2
"""Increases when text files are read differently, so that data prepared from them earlier is not used."""
NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")
"""Parts of the error messages of datasets and pyarrow for a file without rows."""
HINT = f"point --data.source at a folder with train, validation and test files ({FORMATS}), or at one such file"


class Sentence(NamedTuple):
    """A text with the name of its class; None for a null."""

    text: str | None
    label: str | None


@dataclass(frozen=True)
class Files:
    """The files of each split. All files of a split have the same format."""

    splits: Mapping[str, Sequence[Path]]

    def digest(self) -> bytes:
        """Return the sha256 of the contents; paths do not count.

        Raise ValueError for an empty file, an unreadable file and text that is not UTF-8.
        """
        total = hashlib.sha256()
        for split, paths in self.splits.items():
            for path in paths:
                content = hashlib.sha256()
                with _naming(path):
                    for block in blocks(path):
                        content.update(block)
                    if not path.stat().st_size:
                        raise ValueError(f"data.source: {path} is empty")
                    if path.suffix != ".parquet":
                        check_utf8(blocks(path), f"data.source: {path}", path)
                reader = "" if path.suffix == ".parquet" else f" {READER}"
                total.update(f"{split} {path.suffix}{reader} {content.hexdigest()}\n".encode())
        return total.digest()


def find(source: str) -> Files | None:
    """Return the files at `source`, or None if it can only be a name on the hub. Raise ValueError if it is neither."""
    path = Path(source).expanduser()
    with _naming(source):
        if path.is_file():
            if path.suffix not in BUILDERS:
                raise ValueError(f"data.source must be a file with the suffix {FORMATS}, got {source!r}")
            return Files({"train": [path]})
        if path.is_dir():
            return _in_folder(path) or _in_folder(path / "data") or _no_train_file(path)
    if path.suffix in BUILDERS or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", source):
        raise ValueError(f"data.source: no such file or folder: {source!r}; {HINT}")
    return None


def load(source: str, files: Files | None, cache: Path) -> "dict[str, Dataset]":
    """Return split -> Dataset from `files`, or from the hub if it is None. Raise ValueError if that fails."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # it also logs the errors that it raises
    if files is None:
        datasets.config.HF_HUB_OFFLINE = hub_is_off()
        try:
            found = datasets.load_dataset(source)
        except Exception as error:  # the library raises a dozen types for unknown names, no access, no network
            offline = datasets.config.HF_HUB_OFFLINE
            reason = "the hub cannot be reached, and it is not in the cache" if offline else _reason(error)
            raise ValueError(
                f"data.source: {source!r} is not a file or folder, and cannot be loaded from the hub ({reason}); {HINT}"
            ) from None
        return {split: found[name] for split, names in SPLIT_NAMES.items() for name in names if name in found}
    loaded = {}
    for split, paths in files.splits.items():
        builder = BUILDERS[paths[0].suffix]
        try:
            loaded[split] = datasets.load_dataset(
                builder, data_files=[str(path) for path in paths], split="train", cache_dir=str(cache)
            )
        except Exception as error:  # of datasets, pandas or pyarrow
            reason, several = _reason(error), "one of " if len(paths) > 1 else ""
            if any(mark in reason for mark in NO_ROWS):
                raise ValueError(f"data.source: no rows in {several}{_names(paths)}") from None
            raise ValueError(f"data.source: {_names(paths)} cannot be read as {builder}: {reason}") from None
    return loaded


def hub_rows(dataset: "Dataset", columns: Columns, where: str) -> Rows:
    """Return the rows of a data set from the hub. Raise ValueError as `read_columns` does."""
    import datasets

    columns.check(dataset.column_names, where)
    names = list({*columns.texts, *([columns.label] if columns.label else [])})
    label = dataset.features.get(columns.label)
    classes = label.names if isinstance(label, datasets.ClassLabel) else ()
    return arrow_rows(dataset.select_columns(names).with_format("arrow")[:], columns, classes, where)


def images(dataset: "Dataset", column: str, where: str) -> list[NDArray[Any] | None]:
    """Return the grey values [H, W] of each row: an image (uint8) or an array with two dimensions.

    Raise ValueError for a missing column and for rows that are neither.
    """
    import datasets
    from PIL.Image import DecompressionBombError, DecompressionBombWarning

    Columns((column,)).check(dataset.column_names, where)
    feature = dataset.features[column]
    if isinstance(feature, dict) and "bytes" in feature:  # an image in a file without metadata of `datasets`
        dataset = dataset.cast_column(column, datasets.Image())
    found: list[NDArray[Any] | None] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DecompressionBombWarning)
            for value in dataset.select_columns([column])[column]:
                found.append(None if value is None else _grey(value))
    except (OSError, ValueError, DecompressionBombError, DecompressionBombWarning) as error:
        raise ValueError(f"data.columns: {column!r} of {where}, row {len(found)}: {_reason(error)}") from None
    return found


def _grey(value: Any) -> NDArray[Any]:
    if hasattr(value, "convert"):  # PIL's Image
        if value.mode.startswith(("I", "F")):
            raise ValueError(f"images must have 8 bits per channel, got mode {value.mode}")
        return np.asarray(value.convert("L"))
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "buif" or not array.size:
        raise ValueError("must be an image or an array of height x width numbers")
    return array


def _in_folder(folder: Path) -> Files | None:
    splits = {}
    for split, names in SPLIT_NAMES.items():
        pattern = re.compile(rf"({'|'.join(names)})([-_.].*)?")
        paths = sorted(p for p in folder.glob("*") if p.suffix in BUILDERS and pattern.fullmatch(p.stem))
        if len({path.suffix for path in paths}) > 1:
            raise ValueError(f"data.source: {folder} has {_names(paths)} for {split}; keep files of one format only")
        if paths:
            splits[split] = paths
    return Files(splits) if "train" in splits else None


def _no_train_file(folder: Path) -> Files:
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise ValueError(f"data.source: {folder} has no train file ({FORMATS}); it holds {names}")


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Turn an OSError in the block into a ValueError that names `path`."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"data.source: {path} cannot be read ({error.strerror or error})") from None


def hub_is_off() -> bool:
    """Return True if the hub is switched off or does not answer.

    In the second case it is switched off for this process: cached data sets still load, and others fail at once
    instead of after half a minute.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not _reachable():
        constants.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)


def _reachable() -> bool:
    """Return True if the hub answers any request."""
    try:
        urllib.request.urlopen(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _reason(error: BaseException) -> str:
    """Return the first line of the error that caused all others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
