"""A search space, from plain data to what Ray Tune draws from; everything in it is checked before Ray starts."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arae_core.settings import Settings
from arae_core.settings.tree import flatten, with_settings
from pipelines.experiment.settings import Experiment, why_without_effect

Space = dict[str, tuple[Any, ...]]
"""Dotted name -> ("loguniform" | "uniform" | "randint", low, high), both ends included, or ("choice", [values])."""

FOLDER = Path(__file__).resolve().parents[2] / "tune_spaces"
FIXED = ("kind", "longest", "epochs", "iterations", "vocabulary.")
"""Settings of the core that a search cannot choose: the data is prepared once, and trials are compared by step."""
PARTS = ("encoder", "decoder", "generator", "critic", "classifier")
LIVE = (
    *(f"{part}.learning_rate" for part in PARTS),
    *(f"{part}.{beta}" for part in PARTS for beta in ("beta1", "beta2")),
    *("encoder.adversarial_weight", "encoder.attribute_weight", "encoder.word_dropout", "decoder.word_dropout"),
    *("gradient_clip", "code.noise", "code.noise_decay", "generator.average"),
    *("critic.steps", "critic.penalty", "critic.clip"),
)
"""Settings that may change in mid-training: what population based training mutates. Others stay with the weights."""


def load_space(name: str, experiment: Experiment) -> Space:
    """The SPACE of tune_spaces/NAME.py, checked. Raises ValueError where there is none, or it does not fit."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    if name not in names:
        raise ValueError(f"--space must be one of {', '.join(names)}, got {name!r}")
    space: Space = importlib.import_module(f"tune_spaces.{name}").SPACE
    check_space(space, experiment, f"space {name}")
    return space


def check_space(space: Space, experiment: Experiment, title: str) -> None:
    """Raise ValueError unless every key is a setting that can be searched and every bound a value it may have."""
    searchable = flatten(Settings())
    for name, domain in space.items():
        if name not in searchable or name.startswith(FIXED):
            known = name in flatten(experiment)
            what = "decides the data or the length of a run" if known else "is not a setting"
            raise ValueError(f"{title}: {name} cannot be searched, it {what}")
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


def with_tuples(value: Any) -> Any:
    """A value that was kept as JSON, which has lists for the tuples that settings are."""
    if isinstance(value, Mapping):
        return {name: with_tuples(inner) for name, inner in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, (list, tuple)) else value


def recorded_space(record: Mapping[str, Sequence[Any]]) -> Space:
    """A space that was kept as JSON."""
    return {
        name: (kind, *([with_tuples(value) for value in bound] if kind == "choice" else bound for bound in bounds))
        for name, (kind, *bounds) in record.items()
    }


def own_values(space: Space, experiment: Experiment) -> dict[str, Any]:
    """What the experiment itself has for the settings searched: the first trial, so a sweep never loses to it."""
    settings = flatten(experiment)
    return {name: settings[name] for name in space}


def without_effect(values: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """Those of a trial's values (dotted name -> value) that its other values make irrelevant."""
    trial = with_settings(experiment, values)
    return [name for name in values if why_without_effect(name, trial)]


def with_own(space: Space, own: Mapping[str, Any]) -> Space:
    """The space with the experiment's own value among the choices: Optuna takes no other value for one."""
    return {
        name: ("choice", [*domain[1], own[name]]) if domain[0] == "choice" and own[name] not in domain[1] else domain
        for name, domain in space.items()
    }


def domains(space: Space) -> dict[str, Any]:
    """The space in Ray Tune's terms."""
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
    """The part of the space that population based training may mutate; of choices it takes neighbours in the list."""
    live = {name: data for name, data in space.items() if name in LIVE}
    return domains(live) | {name: sorted(data[1]) for name, data in live.items() if data[0] == "choice"}


def inside(space: Space) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that brings a mutated configuration back into the space: times 1.2 leads out of it."""

    def clamp(config: dict[str, Any]) -> dict[str, Any]:
        for name, (kind, *bounds) in space.items():
            if kind != "choice":
                config[name] = min(max(config[name], bounds[0]), bounds[1])
        return config

    return clamp
