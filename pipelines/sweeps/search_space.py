"""Search spaces: from plain data to the domains of Ray Tune. Everything is checked before Ray starts."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arae_core.settings import Settings
from arae_core.settings.declaration import declarations, named
from arae_core.settings.declaration import without_effect as declared_without_effect
from arae_core.settings.tree import flatten, with_settings
from pipelines.experiment.settings import Experiment

Space = dict[str, tuple[Any, ...]]
"""Dotted name -> ("loguniform" | "uniform" | "randint", low, high), both ends included, or ("choice", [values])."""

FOLDER = Path(__file__).resolve().parents[2] / "tune_spaces"


def load_space(name: str, experiment: Experiment) -> Space:
    """Load SPACE of tune_spaces/NAME.py and check it. Raise ValueError if there is none or it does not fit."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    if name not in names:
        raise ValueError(f"--space must be one of {', '.join(names)}, got {name!r}")
    space: Space = importlib.import_module(f"tune_spaces.{name}").SPACE
    check_space(space, experiment, f"space {name}")
    return space


def check_space(space: Space, experiment: Experiment, title: str) -> None:
    """Raise ValueError unless every key is a setting that can be searched and every bound is an allowed value."""
    for name, domain in space.items():
        if why := why_not_searched(name, experiment):
            raise ValueError(f"{title}: {name} cannot be searched, it {why}")
        match domain:
            case ("loguniform" | "uniform", float() | int() as low, float() | int() as high):
                ok = (low > 0 if domain[0] == "loguniform" else True) and low < high < math.inf
                values = [float(low), float(high)]
            case ("randint", int() as low, int() as high):
                ok, values = low < high, [low, high]
            case ("choice", [_, *_] as choices):
                ok, values = True, list(choices)
            case _:
                ok, values = False, []
        if not ok:
            raise ValueError(
                f'{title}: {name} must be ("loguniform" or "uniform" or "randint", low, high) with low < high, '
                f'or ("choice", [values]), got {domain!r}'
            )
        for value in values:
            try:
                with_settings(experiment, {name: value})
            except ValueError as error:
                raise ValueError(f"{title}: {error}") from None


def why_not_searched(name: str, experiment: Experiment) -> str:
    """The reason why a search cannot choose a setting; "" if it can."""
    known = declarations(type(experiment))
    if name not in known:
        return "is not a setting"
    if fixed := known[name].has("fixed"):
        return f"decides {fixed}"
    return "" if name in declarations(Settings) else "decides how a run is executed"


def with_tuples(value: Any) -> Any:
    """Turn the lists of a value that was stored as JSON into the tuples of settings."""
    if isinstance(value, Mapping):
        return {name: with_tuples(inner) for name, inner in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, (list, tuple)) else value


def recorded_space(record: Mapping[str, Sequence[Any]]) -> Space:
    """Read a space that was stored as JSON."""
    return {
        name: (kind, *([with_tuples(value) for value in bound] if kind == "choice" else bound for bound in bounds))
        for name, (kind, *bounds) in record.items()
    }


def own_values(space: Space, experiment: Experiment) -> dict[str, Any]:
    """The experiment's own values of the searched settings: the first trial, so that a sweep never loses to it."""
    settings = flatten(experiment)
    return {name: settings[name] for name in space}


def without_effect(values: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """The names of a trial's values (dotted name -> value) that its other values make irrelevant."""
    irrelevant = declared_without_effect(with_settings(experiment, values))
    return [name for name in values if name in irrelevant]


def lists(space: Space, values: Mapping[str, Any]) -> bool:
    """Return True if each value of a setting with choices is among them."""
    return all(kind != "choice" or values[name] in bounds[0] for name, (kind, *bounds) in space.items())


def domains(space: Space) -> dict[str, Any]:
    """Translate a space to Ray Tune's domains."""
    from ray import tune

    def domain(kind: str, *bounds: Any) -> Any:
        match kind:
            case "loguniform":
                return tune.loguniform(*bounds)
            case "uniform":
                return tune.uniform(*bounds)
            case "randint":
                return tune.randint(bounds[0], bounds[1] + 1)
            case _:
                return tune.choice(bounds[0])

    return {name: domain(*data) for name, data in space.items()}


def mutations(space: Space) -> dict[str, Any]:
    """The part of a space that population based training mutates: settings declared mutable.

    Choices are mutated to their neighbours in the sorted list.
    """
    mutable = named(Settings, "mutable")
    live = {name: data for name, data in space.items() if name in mutable}
    return domains(live) | {name: sorted(data[1]) for name, data in live.items() if data[0] == "choice"}


def inside(space: Space) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that clamps a mutated configuration to the space: a factor of 1.2 may lead out of it."""

    def clamp(config: dict[str, Any]) -> dict[str, Any]:
        for name, (kind, *bounds) in space.items():
            if kind != "choice":
                config[name] = min(max(config[name], bounds[0]), bounds[1])
        return config

    return clamp
