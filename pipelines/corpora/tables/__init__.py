"""Columns of text and of class labels in CSV, JSON, JSON lines, plain text and Parquet files.

Only the columns asked for are read, as the text that stands there: 007 stays 007. Libraries that guess the type of a
column from its first rows change such values, or fail at a later row. A row that does not fit is refused by its line.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.corpora.tables import arrow, csv_files, json_files, text_lines
from pipelines.corpora.tables.arrow import arrow_rows
from pipelines.corpora.tables.columns import Columns, Rows
from pipelines.corpora.text_files import blocks, check_utf8

__all__ = ["Columns", "Rows", "arrow_rows", "column_names", "read_columns"]

FORMATS = {".csv": csv_files, ".json": json_files, ".jsonl": json_files, ".parquet": arrow, ".txt": text_lines}
"""Suffix -> module with names(path), the columns of a file, and read(path, columns), its rows."""


def column_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of the columns of files of one format. Raise ValueError for a file that cannot be read."""
    names = dict[str, None]()
    for path in paths:
        with _naming(path):
            names |= dict.fromkeys(FORMATS[path.suffix].names(path))
    return list(names)


def read_columns(paths: Sequence[Path], columns: Columns) -> Rows:
    """Return the rows of files of one format, file after file.

    A blank label is missing. Raise ValueError for a missing column, for values that are not text, for labels that are
    not class labels, words or whole numbers, and for a row that does not fit its header. The message has the file.
    """
    rows = Rows.none_of(columns)
    for path in paths:
        with _naming(path):
            rows.extend(FORMATS[path.suffix].read(path, columns))
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
