"""Parquet files and Arrow tables."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.corpora.tables.columns import Columns, Rows, Values, class_name

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]


def read(path: Path, columns: Columns) -> Rows:
    """Return the rows of a Parquet file. Raise ValueError for columns of another type."""
    with _open_parquet(path) as file:
        columns.check(file.schema_arrow.names, str(path))
        table = file.read(columns=list({*columns.texts, *([columns.label] if columns.label else [])}))
        # `datasets` stores class labels as numbers, and their names in the metadata of the schema
        metadata = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    return arrow_rows(table, columns, features.get(columns.label, {}).get("names", ()), str(path))


def names(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file."""
    with _open_parquet(path) as file:
        return list(file.schema_arrow.names)


@contextmanager
def _open_parquet(path: Path) -> "Iterator[Any]":
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"data.source: {path} cannot be read as Parquet: {reason}") from None


def arrow_rows(table: "pa.Table", columns: Columns, classes: Sequence[str], where: str) -> Rows:
    """Return the rows of an Arrow table. Raise ValueError as `read_columns` does.

    classes: the names of a column of class labels, which are numbers; -1 is a missing one. where: names the table.
    """
    texts = {name: _arrow_texts(table[name], f"{columns.text_setting}: {name!r} of {where}") for name in columns.texts}
    if not columns.label:
        return Rows(texts, [])
    place = f"{columns.label_setting}: {columns.label!r} of {where}"
    return Rows(texts, _arrow_labels(table[columns.label], classes, place))


def _arrow_texts(column: "pa.ChunkedArray", where: str) -> Values:
    import pyarrow as pa

    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        kind, column = kind.value_type, column.cast(kind.value_type)
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)):
        raise ValueError(f"{where} must hold text, got {kind}")
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: {error}") from None


def _arrow_labels(column: "pa.ChunkedArray", classes: Sequence[str], where: str) -> Values:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.to_pylist()
    if classes and pa.types.is_integer(column.type):
        if any(value is not None and value >= len(classes) for value in values):
            raise ValueError(f"{where} has a class label beyond the names of its {len(classes)} classes")
        return [None if value is None or value < 0 else classes[value] for value in values]
    try:
        return [class_name(value) for value in values]
    except ValueError:
        raise ValueError(f"{where} must hold class labels, words or whole numbers, got {column.type}") from None
