"""Trees of settings: the leaves of nested dataclasses by dotted name. Imports no torch."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from arae_core.settings.checks import require

Tree = TypeVar("Tree")


def flatten(tree: object, prefix: str = "") -> dict[str, Any]:
    """Return dotted name -> value for every leaf of a tree of dataclasses, in order."""
    flat: dict[str, Any] = {}
    for f in fields(tree):  # type: ignore[arg-type]
        value = getattr(tree, f.name)
        if hasattr(value, "__dataclass_fields__"):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat


def with_settings(tree: Tree, values: Mapping[str, Any]) -> Tree:
    """Return a copy of `tree` with the leaves in `values` (dotted name -> value) replaced.

    Integers become floats and lists become tuples if the field has that type, so that JSON can be read back.
    Raise ValueError for an unknown name, with the nearest known one, and for a value of the wrong type.
    """
    known = flatten(tree)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else ""))
    return _replaced(tree, values, "")


def _replaced(tree: Tree, values: Mapping[str, Any], prefix: str) -> Tree:
    changed: dict[str, Any] = {}
    types = get_type_hints(type(tree))
    for f in fields(tree):  # type: ignore[arg-type]
        name = prefix + f.name
        if name in values:
            changed[f.name] = _converted(name, values[name], types[f.name])
        elif any(key.startswith(name + ".") for key in values):
            changed[f.name] = _replaced(getattr(tree, f.name), values, name + ".")
    copy: Tree = replace(tree, **changed)  # type: ignore[type-var]
    return copy


def _converted(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        require(isinstance(value, (list, tuple)), name, value, "a list")
        return tuple(_converted(name, v, get_args(kind)[0]) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    require(type(value) is kind, name, value, f"of type {kind.__name__}")
    return value
