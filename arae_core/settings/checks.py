"""Checks of one value: each raises ValueError "NAME must be ALLOWED, got VALUE" unless the value is allowed."""

import math


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise ValueError "NAME must be ALLOWED, got VALUE" unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    require(value in allowed, name, value, "one of " + ", ".join(allowed))


def at_least(name: str, value: float, low: float) -> None:
    """Raise ValueError unless low <= value < infinity."""
    require(low <= value < math.inf, name, value, f">= {low}" + _and_finite(value))


def above(name: str, value: float, low: float) -> None:
    """Raise ValueError unless low < value < infinity."""
    require(low < value < math.inf, name, value, f"> {low}" + _and_finite(value))


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high. NaN never passes."""
    require(low <= value <= high, name, value, f"from {low:g} to {high:g}")


def _and_finite(value: float) -> str:
    return " and finite" if value == math.inf else ""
