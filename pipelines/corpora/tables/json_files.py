"""JSON files: one object a line, a list of objects, or one object of lists of equal length."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.corpora.tables.columns import Columns, Rows, class_name
from pipelines.corpora.text_files import read_lines


def read(path: Path, columns: Columns) -> Rows:
    """Return the rows of a file; a missing key is a null. Raise ValueError, with the line or row, for a wrong value."""
    rows, keys = Rows.none_of(columns), dict[str, None]()
    for where, row in _rows(path):
        keys |= dict.fromkeys(row)
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
    if keys:
        columns.check(list(keys), str(path))
    return rows


def names(path: Path) -> list[str]:
    """Return all keys, in the order in which they appear."""
    found = dict[str, None]()
    for _, row in _rows(path):
        found |= dict.fromkeys(row)
    return list(found)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (file and line or row, object) of JSON lines, a list of objects, or one object of lists of equal length."""
    lines = ((number, line) for number, line in enumerate(read_lines(path), 1) if line.strip())
    number, line = next(lines, (0, ""))
    if number and path.suffix == ".json" and not _is_row(line):
        for i, row in enumerate(_table(path), 1):
            yield f"{path}, row {i}", _object(row, f"{path}, row {i}")
        return
    while number:
        where = f"{path}, line {number}"
        yield where, _object(_parse(line, where), where)
        number, line = next(lines, (0, ""))


def _is_row(line: str) -> bool:
    """Return True if a line is a whole JSON object that is no table, see `_table`."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not _is_table(found)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(column, list) for column in value.values())


def _table(path: Path) -> list[Any]:
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
