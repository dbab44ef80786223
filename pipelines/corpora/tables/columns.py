"""Columns of a table that are asked for, the rows that are read, and the names of classes."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

Values = list[str | None]
"""One value per row; None if it is missing."""


@dataclass(frozen=True)
class Columns:
    """Columns to read: some of text and, unless `label` is empty, one of classes.

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
    """Rows of a table.

    texts: the values of each column of text. labels: the class of each row, if a column was asked for.
    """

    texts: dict[str, Values]
    labels: Values

    @classmethod
    def none_of(cls, columns: Columns) -> "Rows":
        """Return no rows of these columns, to add to."""
        return cls({name: [] for name in columns.texts}, [])

    def extend(self, others: "Rows") -> None:
        """Add rows of the same columns at the end."""
        for name, values in others.texts.items():
            self.texts[name] += values
        self.labels += others.labels


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
