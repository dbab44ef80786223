"""CSV files. Values are read as written; a row that does not fit the header is refused."""

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pipelines.corpora.tables.columns import Columns, Rows, class_name

WHOLE = re.compile(r"([+-]?\d+)\.0+")
"""A whole number as spreadsheets and pandas write it in a column that has blanks: class 1.0 is class 1."""


def names(path: Path) -> list[str]:
    """Return the header."""
    return next((row for _, row in _rows(path)), [])


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
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


def read(path: Path, columns: Columns) -> Rows:
    """Return the rows of a file. Raise ValueError, with the line, for one that does not fit the header."""
    found = _rows(path)
    _, header = next(found, (0, []))
    columns.check(header, str(path))
    rows, label = Rows.none_of(columns), header.index(columns.label) if columns.label else -1
    texts = [(values, header.index(name)) for name, values in rows.texts.items()]
    for line, row in found:
        if len(row) != len(header):
            raise ValueError(
                f"data.source: {path}, line {line} has {len(row)} fields, but the header has {len(header)}; "
                'a field that contains a comma must be in double quotes ("...")'
            )
        for values, i in texts:
            values.append(row[i])
        if columns.label:
            rows.labels.append(_label(row[label]))
    return rows


def _label(value: str) -> str | None:
    whole = WHOLE.fullmatch(value.strip())
    return class_name(whole[1] if whole else value)
