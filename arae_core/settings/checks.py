"""What a value must be: each check raises ValueError "NAME must be ALLOWED, got VALUE" unless it is."""

import math


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise ValueError "NAME must be ALLOWED, got VALUE" unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    require(value in allowed, name, value, "one of " + ", ".join(allowed))


def at_least(name: str, value: float, low: float) -> None:
    """Raise unless low <= value < infinity."""
    require(low <= value < math.inf, name, value, f">= {low}{_if_endless(value)}")


def above(name: str, value: float, low: float) -> None:
    """Raise unless low < value < infinity."""
    require(low < value < math.inf, name, value, f"> {low}{_if_endless(value)}")


def _if_endless(value: float) -> str:
    """What else a value must be that no bound tells: infinity is above all of them."""
    return " and finite" if value == math.inf else ""


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise unless low <= value <= high (NaN never passes)."""
    require(low <= value <= high, name, value, f"from {low:g} to {high:g}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise unless low <= value < high (NaN never passes)."""
    require(low <= value < high, name, value, f"in [{low}, {high})")


def widths(name: str, value: tuple[int, ...], least: int = 0) -> None:
    require(len(value) >= least and all(w >= 1 for w in value), name, value, f"{least} or more widths, each >= 1")
