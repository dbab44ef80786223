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
    require(low <= value < math.inf, name, value, f">= {low}")


def above(name: str, value: float, low: float) -> None:
    """Raise unless low < value < infinity."""
    require(low < value < math.inf, name, value, f"> {low}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise unless low <= value < high (NaN never passes)."""
    require(low <= value < high, name, value, f"in [{low}, {high})")


def widths(name: str, value: tuple[int, ...], least: int = 0) -> None:
    require(len(value) >= least and all(w >= 1 for w in value), name, value, f"{least} or more widths, each >= 1")
