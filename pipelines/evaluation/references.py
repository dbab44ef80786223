"""Files to score attribute transfer with: sentences with human rewritings, and outputs of other systems."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.corpora import sources


@dataclass(frozen=True)
class References:
    """Sentences to rewrite: sentences[N] of the classes labels[N].

    references: human rewritings [R][N]. outputs: [N] by each other system, keyed by its name.
    """

    sentences: list[str]
    labels: list[str]
    references: list[list[str]]
    outputs: dict[str, list[str]]


@dataclass(frozen=True)
class _Table:
    """Columns of a file. `read(name)` returns texts or, for "label", the names or numbers of classes."""

    flag: str
    path: Path
    names: Sequence[str]
    read: Callable[[str], list[str | None]]

    def column(self, name: str) -> list[str | None]:
        if name not in self.names:
            raise ValueError(f"{self.flag} {self.path} must have a column {name}, it has {', '.join(self.names)}")
        return self.read(name)


def read_references(references: Path, outputs: Path | None, classes: Sequence[str], cache: Path) -> References:
    """Read the sentences to rewrite and, if there are any, the outputs of other systems.

    Columns of `references`: source, label, and reference or reference_0, reference_1 and so on. Columns of `outputs`:
    system, source and output, with one row per system and sentence. Labels are names of `classes` or their numbers.

    Raise ValueError for missing files or columns, unknown classes, and systems without an output for some sentence.
    """
    table = _open_table("--references", references, cache)
    names = sorted(name for name in table.names if name == "reference" or name.startswith("reference_"))
    if not names:
        raise ValueError(f"--references {references} must have a column reference, or reference_0 and so on")
    sentences, *rewritten = ([str(text) for text in table.column(name)] for name in ("source", *names))
    labels = _class_names([str(label) for label in table.column("label")], classes, references)
    if not sentences:
        raise ValueError(f"--references {references}: there are no rows in it")
    systems = _read_outputs(outputs, sentences, cache) if outputs is not None else {}
    return References(sentences, labels, rewritten, systems)


def _class_names(labels: list[str], classes: Sequence[str], path: Path) -> list[str]:
    """Return the labels as names of classes; numbers count from 0. Raise ValueError for an unknown class."""
    numbers = {str(y): name for y, name in enumerate(classes)}
    if not set(labels) & set(classes) and set(labels) <= set(numbers):
        labels = [numbers[label] for label in labels]
    for label in set(labels):
        if label not in classes:
            raise ValueError(f"--references {path}: label must be one of {', '.join(classes)}, got {label!r}")
    return labels


def _read_outputs(path: Path, sentences: Sequence[str], cache: Path) -> dict[str, list[str]]:
    """Return system -> its output for each of the sentences."""
    table = _open_table("--outputs", path, cache)
    found: dict[str, dict[str, str]] = {}
    columns = (table.column(name) for name in ("system", "source", "output"))
    for system, source, output in zip(*columns, strict=True):
        found.setdefault(str(system), {})[str(source)] = str(output or "")
    for system, written in found.items():
        missing = sum(sentence not in written for sentence in sentences)
        if missing:
            raise ValueError(f"--outputs {path}: {system} has no output for {missing} of {len(sentences)} sentences")
    return {system: [written[sentence] for sentence in sentences] for system, written in found.items()}


def _open_table(flag: str, path: Path, cache: Path) -> _Table:
    """Open a file of any supported format. Parquet needs pyarrow alone, so it is read without `datasets`."""
    try:
        files = sources.find(str(path))
        if files is not None and all(file.suffix == ".parquet" for file in files.splits["train"]):
            return _open_parquet(flag, path, files.splits["train"])
        dataset = sources.load(str(path), files, cache)["train"]
    except ValueError as error:  # it names the setting of the training data
        raise ValueError(str(error).replace("data.source", flag, 1)) from None

    def read(column: str) -> list[str | None]:
        if column == "label":
            return sources.labels(dataset, column, str(path))
        return sources.texts(dataset, [column], str(path))

    return _Table(flag, path, dataset.column_names, read)


def _open_parquet(flag: str, path: Path, files: Sequence[Path]) -> _Table:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = pyarrow.concat_tables([parquet.read_table(file, partitioning=None) for file in files])
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{flag} {path} cannot be read as parquet: {error}") from None
    # `datasets` stores class labels as numbers, and their names in the metadata of the schema
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})

    def read(column: str) -> list[str | None]:
        kind, values = table.schema.field(column).type, table[column].to_pylist()
        if column == "label" and (pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)):
            if names := features.get(column, {}).get("names"):
                return [None if value is None or value < 0 else str(names[value]) for value in values]
            return [None if value is None else str(value) for value in values]
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_null(kind)):
            raise ValueError(f"{flag} {path}: column {column} must hold text, it holds {kind}")
        return values  # type: ignore[no-any-return]

    return _Table(flag, path, table.column_names, read)
