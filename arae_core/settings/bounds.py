"""Bounds of a setting's value, as its declaration states them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from arae_core.settings.checks import require


@dataclass(frozen=True)
class Bound:
    """A set of allowed values: a predicate, and the words for it after "must be", fixed or looked up when needed."""

    accepts: Callable[[Any], bool]
    words: str | Callable[[], str]

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        return self.words if isinstance(self.words, str) else self.words()

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError "NAME must be ALLOWED, got VALUE" unless `value` is allowed."""
        if not self.accepts(value):
            finite = " and finite" if value == math.inf and self.allowed.startswith(">") else ""
            require(False, name, value, self.allowed + finite)


def at_least(low: float) -> Bound:
    """Allow low <= value < infinity."""
    return Bound(lambda value: low <= value < math.inf, f">= {_spelled(low)}")


def above(low: float) -> Bound:
    """Allow low < value < infinity."""
    return Bound(lambda value: low < value < math.inf, f"> {_spelled(low)}")


def between(low: float, high: float) -> Bound:
    """Allow low <= value <= high."""
    return Bound(lambda value: low <= value <= high, f"from {_spelled(low)} to {_spelled(high)}")


def half_open(low: float, high: float) -> Bound:
    """Allow low <= value < high."""
    return Bound(lambda value: low <= value < high, f"in [{_spelled(low)}, {_spelled(high)})")


def one_of(*values: Any) -> Bound:
    """Allow the listed values."""
    return Bound(lambda value: value in values, "one of " + ", ".join(map(str, values)))


def widths(least: int = 0) -> Bound:
    """Allow tuples of at least `least` layer widths, each >= 1."""
    return Bound(
        lambda value: len(value) >= least and all(width >= 1 for width in value),
        f"{least} or more widths, each >= 1",
    )


def _spelled(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
