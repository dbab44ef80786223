"""Columns of text and of class labels in CSV, JSON, JSON lines, plain text and Parquet files.

Only the columns asked for are read, as the text that stands there: 007 stays 007. Libraries that guess the type of a
column from its first rows change such values, or fail at a later row. A row that does not fit is refused by its line.
"""

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.corpora.text_files import blocks, check_utf8, read_lines

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

Values = list[str | None]
"""One value per row; None if it is missing."""
WHOLE = re.compile(r"([+-]?\d+)\.0+")
"""A whole number as spreadsheets and pandas write it in a column that has blanks: class 1.0 is class 1."""


@dataclass(frozen=True)
class Columns:
    """What to read: columns of text and, unless it is empty, the column of the class.

    text_setting, label_setting: name the columns in error messages.
    """

    texts: Sequence[str]
    label: str = ""
    text_setting: str = "data.columns"
    label_setting: str = "data.label"

    def check(self, found: Sequence[str], where: str, note: str = "") -> None:
        """Raise ValueError unless each column is in `found` once. note: ends the message."""
        labels = [(self.label_setting, self.label)] if self.label else []
        for setting, name in [*((self.text_setting, name) for name in self.texts), *labels]:
            if name not in found:
                raise ValueError(
                    f"{setting} must be among {', '.join(found)}, the columns of {where}, got {name!r}{note}"
                )
            if found.count(name) > 1:
                raise ValueError(f"{setting}: {where} has {found.count(name)} columns named {name!r}")


@dataclass
class Rows:
    """texts: the values of each column of text. labels: the class of each row, if a column was asked for."""

    texts: dict[str, Values]
    labels: Values

    @classmethod
    def none_of(cls, columns: Columns) -> "Rows":
        return cls({name: [] for name in columns.texts}, [])

    def extend(self, others: "Rows") -> None:
        for name, values in others.texts.items():
            self.texts[name] += values
        self.labels += others.labels


def column_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of the columns of files of one format. Raise ValueError for a file that cannot be read."""
    names = dict[str, None]()
    for path in paths:
        with _naming(path):
            names |= dict.fromkeys(_FORMATS[path.suffix].names(path))
    return list(names)


def read_columns(paths: Sequence[Path], columns: Columns) -> Rows:
    """Return the rows of files of one format, file after file.

    A blank label is missing. Raise ValueError for a missing column, for values that are not text, for labels that are
    not class labels, words or whole numbers, and for a row that does not fit its header. The message has the file.
    """
    rows = Rows.none_of(columns)
    for path in paths:
        with _naming(path):
            rows.extend(_FORMATS[path.suffix].read(path, columns))
    if not any(rows.texts.values()):
        raise ValueError(f"data.source: no rows in {', '.join(path.name for path in paths)}")
    return rows


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an OSError and text that is not UTF-8 into a ValueError that names `path`."""
    try:
        yield
    except UnicodeDecodeError:
        check_utf8(blocks(path), f"data.source: {path}", path)
        raise
    except OSError as error:
        raise ValueError(f"data.source: {path} cannot be read ({error.strerror or error})") from None


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


def class_name(value: object) -> str | None:
    """Return the name of a class; None for a null, a blank and NaN. Raise ValueError if it cannot be one."""
    match value:
        case None:
            return None
        case str():
            return value if value.strip() else None
        case bool() | int():
            return str(value)
        case float() if math.isnan(value):
            return None
        case float() if value.is_integer():
            return str(int(value))
    raise ValueError(f"must be a class label, a word or a whole number, got {json.dumps(value, default=str)[:40]}")


def _csv_names(path: Path) -> list[str]:
    return next((row for _, row in _csv_rows(path)), [])


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of each row that is not blank."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"data.source: {path}, line {line} cannot be read as CSV: {error}") from None
            if row is None:
                return
            if row:
                yield line, row


def _read_csv(path: Path, columns: Columns) -> Rows:
    found = _csv_rows(path)
    _, names = next(found, (0, []))
    columns.check(names, str(path))
    rows, label = Rows.none_of(columns), names.index(columns.label) if columns.label else -1
    texts = [(values, names.index(name)) for name, values in rows.texts.items()]
    for line, row in found:
        if len(row) != len(names):
            raise ValueError(
                f"data.source: {path}, line {line} has {len(row)} fields, but the header has {len(names)}; "
                'a field that contains a comma must be in double quotes ("...")'
            )
        for values, i in texts:
            values.append(row[i])
        if columns.label:
            rows.labels.append(_csv_label(row[label]))
    return rows


def _csv_label(value: str) -> str | None:
    whole = WHOLE.fullmatch(value.strip())
    return class_name(whole[1] if whole else value)


def _read_json(path: Path, columns: Columns) -> Rows:
    rows, names = Rows.none_of(columns), dict[str, None]()
    for where, row in _json_rows(path):
        names |= dict.fromkeys(row)
        for name, values in rows.texts.items():
            value = row.get(name)
            if value is not None and not isinstance(value, str):
                kind = {dict: "an object", list: "a list", bool: "a boolean"}.get(type(value), "a number")
                raise ValueError(f"{columns.text_setting}: {name!r} of {where} must hold text, got {kind}")
            values.append(value)
        if columns.label:
            try:
                rows.labels.append(class_name(row.get(columns.label)))
            except ValueError as error:
                raise ValueError(f"{columns.label_setting}: {columns.label!r} of {where} {error}") from None
    if names:
        columns.check(list(names), str(path))
    return rows


def _json_names(path: Path) -> list[str]:
    names = dict[str, None]()
    for _, row in _json_rows(path):
        names |= dict.fromkeys(row)
    return list(names)


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (file and line or row, object) of JSON lines, a list of objects, or one object of lists of equal length."""
    lines = ((number, line) for number, line in enumerate(read_lines(path), 1) if line.strip())
    number, line = next(lines, (0, ""))
    if number and path.suffix == ".json" and not _is_row(line):
        for i, row in enumerate(_json_table(path), 1):
            yield f"{path}, row {i}", _object(row, f"{path}, row {i}")
        return
    while number:
        where = f"{path}, line {number}"
        yield where, _object(_parse(line, where), where)
        number, line = next(lines, (0, ""))


def _is_row(line: str) -> bool:
    """Return True if a line is a whole JSON object that is no table, see `_json_table`."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not _is_table(found)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(column, list) for column in value.values())


def _json_table(path: Path) -> list[Any]:
    """Return the rows of a file that is one JSON value."""
    content = _parse("\n".join(read_lines(path)), str(path))
    if isinstance(content, list):
        return content
    if not _is_table(content):
        raise ValueError(f"data.source: {path} must be a list of objects, or have one object per line")
    if len({len(column) for column in content.values()}) > 1:
        raise ValueError(f"data.source: {path}: the columns must have equally many values")
    return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def _parse(text: str, where: str) -> Any:
    try:
        found = json.loads(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        reason = f"{error.msg}, {at}"
    except UnicodeEncodeError:
        reason = "an escape is half of a surrogate pair"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # a number with thousands of digits
        reason = str(error).splitlines()[0]
    raise ValueError(f"data.source: {where} cannot be read as JSON: {reason}")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'data.source: {where} must be an object such as {{"text": "..."}}')
    return value


def _read_lines(path: Path, columns: Columns) -> Rows:
    columns.check(_text_names(path), str(path), "; for a .txt file: --data.columns text")
    lines: Values = list(read_lines(path))
    return Rows({"text": lines}, lines if columns.label else [])


def _text_names(path: Path) -> list[str]:
    return ["text"]


def _read_parquet(path: Path, columns: Columns) -> Rows:
    with _open_parquet(path) as file:
        columns.check(file.schema_arrow.names, str(path))
        table = file.read(columns=list({*columns.texts, *([columns.label] if columns.label else [])}))
        # `datasets` stores class labels as numbers, and their names in the metadata of the schema
        metadata = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    return arrow_rows(table, columns, features.get(columns.label, {}).get("names", ()), str(path))


def _parquet_names(path: Path) -> list[str]:
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


@dataclass(frozen=True)
class _Format:
    names: Callable[[Path], list[str]]
    read: Callable[[Path, Columns], Rows]


_FORMATS = {
    ".csv": _Format(_csv_names, _read_csv),
    ".json": _Format(_json_names, _read_json),
    ".jsonl": _Format(_json_names, _read_json),
    ".parquet": _Format(_parquet_names, _read_parquet),
    ".txt": _Format(_text_names, _read_lines),
}
