"""Sentences with people's own rewritings, and what other systems wrote for them: files to score transfer with."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.corpora import sources


@dataclass(frozen=True)
class References:
    """sentences[N] of classes own[N], to be said again as of another one; rewritten[R][N] by people; outputs[N] of
    other systems by their names."""

    sentences: list[str]
    own: list[str]
    rewritten: list[list[str]]
    outputs: dict[str, list[str]]


@dataclass(frozen=True)
class _Table:
    """A file's columns. read: of a name, texts or, of "label", the names or numbers of classes."""

    flag: str
    path: Path
    names: Sequence[str]
    read: Callable[[str], list[str | None]]

    def column(self, name: str) -> list[str | None]:
        if name not in self.names:
            raise ValueError(f"{self.flag} {self.path} must have a column {name}, it has {', '.join(self.names)}")
        return self.read(name)


def read_references(references: Path, outputs: Path | None, classes: Sequence[str], cache: Path) -> References:
    """Columns of `references`: source, label, reference or reference_0, reference_1 and so on. Of `outputs`: system,
    source and output, a row for each system and sentence. Labels are names of classes, or numbers of them from 0 on.

    Raises ValueError for files or columns that are missing, classes that the model does not know, and systems that
    wrote nothing for some of the sentences.
    """
    table = _table("--references", references, cache)
    names = sorted(name for name in table.names if name == "reference" or name.startswith("reference_"))
    if not names:
        raise ValueError(f"--references {references}: it must have a column reference, or reference_0 and so on")
    sentences, *rewritten = ([str(text) for text in table.column(name)] for name in ("source", *names))
    own = [str(label) for label in table.column("label")]
    if not sentences:
        raise ValueError(f"--references {references}: there are no rows in it")
    numbers = {str(y): name for y, name in enumerate(classes)}
    if not set(own) & set(classes) and set(own) <= set(numbers):
        own = [numbers[label] for label in own]
    for label in set(own):
        if label not in classes:
            raise ValueError(f"--references {references}: the model knows {', '.join(classes)}, not {label!r}")
    found: dict[str, dict[str, str]] = {}
    if outputs is not None:
        other = _table("--outputs", outputs, cache)
        columns = (other.column(name) for name in ("system", "source", "output"))
        for system, source, output in zip(*columns, strict=True):
            found.setdefault(str(system), {})[str(source)] = str(output or "")
    aligned = {}
    for system, written in found.items():
        missing = sum(sentence not in written for sentence in sentences)
        if missing:
            raise ValueError(
                f"--outputs {outputs}: {system} has nothing for {missing} of the {len(sentences)} sentences"
            )
        aligned[system] = [written[sentence] for sentence in sentences]
    return References(sentences, own, rewritten, aligned)


def _table(flag: str, path: Path, cache: Path) -> _Table:
    """Parquet by pyarrow alone, so that it is read where there is no `datasets`; other formats as all data are."""
    try:
        files = sources.find(str(path))
        if files is not None and all(file.suffix == ".parquet" for file in files.splits["train"]):
            return _parquet(flag, path, files.splits["train"])
        dataset = sources.load(str(path), files, cache)["train"]
    except ValueError as error:  # it takes the file for the data to train on
        raise ValueError(str(error).replace("data.source", flag, 1)) from None

    def read(column: str) -> list[str | None]:
        if column == "label":
            return sources.labels(dataset, column, str(path))
        return sources.texts(dataset, [column], str(path))

    return _Table(flag, path, dataset.column_names, read)


def _parquet(flag: str, path: Path, files: Sequence[Path]) -> _Table:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = pyarrow.concat_tables([parquet.read_table(file, partitioning=None) for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{flag} {path} cannot be read as parquet: {error}") from None
    # class labels are numbers, their names are in the library's own note beside the columns
    note = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})

    def read(column: str) -> list[str | None]:
        kind, values = table.schema.field(column).type, table[column].to_pylist()
        if column == "label" and (pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)):
            if names := features.get(column, {}).get("names"):
                return [None if value is None or value < 0 else str(names[value]) for value in values]
            return [None if value is None else str(value) for value in values]
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_null(kind)):
            raise ValueError(f"{path}: column {column} must hold text, it holds {kind}")
        return values  # type: ignore[no-any-return]

    return _Table(flag, path, table.column_names, read)
