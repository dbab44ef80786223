"""Plain text: one example a line, in the column `text`."""

from pathlib import Path

from pipelines.corpora.tables.columns import Columns, Rows, Values
from pipelines.corpora.text_files import read_lines


def read(path: Path, columns: Columns) -> Rows:
    """Return the lines of a file. Raise ValueError if another column is asked for."""
    columns.check(names(path), str(path), "; for a .txt file: --data.columns text")
    lines: Values = list(read_lines(path))
    return Rows({"text": lines}, lines if columns.label else [])


def names(path: Path) -> list[str]:
    """Return the name of the only column."""
    return ["text"]
