import re
from typing import Any

import pytest

from arae_core.settings import Settings
from arae_core.settings.declaration import declarations, without_effect
from arae_core.settings.tree import flatten, with_settings
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import DataSettings, Experiment, changeable_on_resume, warnings_for


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "name must be letters, digits, '.', '_' and '-', got ''"),
        ({"name": "a/b"}, "name must be letters"),
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda, got 'gpu'"),
        ({"evaluate_every": 0}, "evaluate_every must be >= 1, got 0"),
        ({"log_every": 0}, "log_every must be >= 1, got 0"),
        ({"samples": 0}, "samples must be from 1 to 10000000, got 0"),
        ({"max_failures": -1}, "max_failures must be >= 0, got -1"),
        ({"data.source": ""}, "data.source must be"),
        ({"data.columns": ()}, "data.columns must be one or more different column names, got ()"),
        ({"data.columns": ("text", "")}, "data.columns must be one or more"),
        ({"data.columns": ("a", "a")}, "data.columns must be one or more different"),
        ({"data.shortest": 0}, "data.shortest must be >= 1, got 0"),
        ({"data.shortest": 16, "longest": 15}, "data.shortest must be <= longest (15), got 16"),
        ({"data.limit": -1}, "data.limit must be >= 0, got -1"),
        ({"data.limit": 63}, "data.limit must be 0 or >= batch_size (64), got 63"),
        ({"data.size": 29}, "data.size must be from 30 to 10000000, got 29"),
        ({"kind": "image"}, "kind must be text for data.source grammar, got 'image'"),
        ({"batch_size": 2, "workers": 3}, "batch_size must be >= workers (3), got 2"),
        ({"critic.steps": 0}, "critic.steps must be >= 1, got 0"),
    ],
)
def test_refused_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        with_settings(preset("grammar"), values)


def test_images_have_one_column() -> None:
    with pytest.raises(ValueError, match=r"data\.columns must be one column for images"):
        with_settings(preset("mnist"), {"data.columns": ("a", "b")})


def test_an_experiment_extends_the_cores_settings() -> None:
    flat = flatten(Experiment(name="x", data=DataSettings(limit=64)))
    assert {"critic.steps", "batch_size", "name", "workers", "data.limit"} <= set(flat)


@pytest.mark.parametrize(
    ("config", "values", "name"),
    [
        ("digits", {}, "data.shortest"),
        ("digits", {}, "longest"),
        ("grammar", {}, "data.columns"),
        ("snli", {}, "data.size"),
        ("grammar", {"iterations": 5}, "epochs"),
        ("grammar", {}, "critic.clip"),
        ("grammar", {"critic.objective": "none"}, "encoder.updates"),
        ("grammar-entailment", {"head.optimizer": "sgd"}, "head.beta2"),
    ],
)
def test_settings_without_effect_are_found(config: str, values: dict[str, Any], name: str) -> None:
    assert name in without_effect(with_settings(preset(config), values))


def test_settings_with_an_effect_are_not_reported() -> None:
    assert not {"epochs", "data.size", "data.shortest", "longest", "critic.penalty"} & set(
        without_effect(preset("grammar"))
    )


def test_batch_normalization_on_several_workers_gives_a_warning() -> None:
    changed = {"generator.normalization": "batch", "workers": 2}
    (doubt,) = warnings_for(with_settings(preset("grammar"), changed))
    assert doubt.startswith("generator.normalization batch: each of the 2 workers")
    assert warnings_for(with_settings(preset("grammar"), changed | {"workers": 1})) == []
    assert warnings_for(preset("grammar")) == []
    one_layer = {"classifier.normalization": "batch", "workers": 2}
    assert warnings_for(with_settings(preset("grammar-sentiment"), one_layer)) == []
    two_layers = one_layer | {"classifier.hidden": (5, 3)}
    assert warnings_for(with_settings(preset("grammar"), two_layers)) == [], "without labels there is no classifier"
    (doubt,) = warnings_for(with_settings(preset("grammar-sentiment"), two_layers))
    assert doubt.startswith("classifier.normalization batch")


def test_batch_normalization_needs_two_examples_on_every_worker() -> None:
    changed = {"generator.normalization": "batch", "workers": 3, "batch_size": 5}
    with pytest.raises(ValueError, match=r"batch_size must be >= 6 with generator.normalization batch on 3 workers"):
        with_settings(preset("grammar"), changed)
    assert with_settings(preset("grammar"), changed | {"batch_size": 6}).workers == 3


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 3, "workers": 3},
        {"data.shortest": 15, "longest": 15},
        {"data.limit": 64},
        {"workers": 3, "min_workers": 3},
        {"data.size": 30},
        {"samples": 1},
    ],
)
def test_bounds_are_allowed(values: dict[str, Any]) -> None:
    flat = flatten(with_settings(preset("grammar"), values))
    assert {name: flat[name] for name in values} == values


def test_a_run_resumes_with_all_settings_that_decide_the_weights() -> None:
    assert changeable_on_resume() and not changeable_on_resume() & declarations(Settings).keys()
