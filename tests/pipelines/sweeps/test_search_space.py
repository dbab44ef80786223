"""Search spaces: every shipped one is valid for every preset, and errors are found before Ray starts."""

import importlib
import subprocess
import sys

import pytest
from ray.tune.registry import register_trainable

from arae_core.settings import Settings
from arae_core.settings.declaration import named
from arae_core.settings.tree import with_settings
from pipelines.experiment.presets import PRESETS, preset
from pipelines.sweeps.search import make_search_algorithm
from pipelines.sweeps.search_space import (
    FOLDER,
    Space,
    check_space,
    domains,
    inside,
    load_space,
    mutations,
    own_values,
    without_effect,
)
from tests.pipelines.small import Make

SPACES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_bound_of_every_space_is_valid_for_every_preset(space: str, name: str) -> None:
    experiment = preset(name)
    names = importlib.import_module(f"tune_spaces.{space}").SPACE
    objectives = "critic.objective" in names
    if objectives and experiment.critic.normalization == "batch":  # the gradient penalty does not allow it
        with pytest.raises(ValueError, match=f"space {space}: critic.normalization must not be 'batch'"):
            load_space(space, experiment)
        experiment = with_settings(experiment, {"critic.normalization": "layer"})
    if "decoder.conditioning" in names and experiment.decoder.alignment_weight:  # it needs one decoder
        with pytest.raises(ValueError, match=rf"space {space}: decoder\.conditioning must be embedding"):
            load_space(space, experiment)
        experiment = with_settings(experiment, {"decoder.alignment_weight": 0.0})
    loaded = load_space(space, experiment)
    own = own_values(loaded, experiment)
    assert with_settings(experiment, own) == experiment
    assert set(own) == set(loaded)


@pytest.mark.parametrize("space", SPACES)
def test_spaces_import_only_the_standard_library(space: str) -> None:
    code = f"import sys, tune_spaces.{space}; assert not {{'torch', 'ray', 'numpy', 'arae_core'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parent)


def test_stability_searches_the_sensitive_hyperparameters() -> None:
    space = load_space("stability", preset("grammar"))
    rates = {f"{part}.learning_rate" for part in ("encoder", "decoder", "generator", "critic")}
    assert rates | {"critic.steps", "encoder.adversarial_weight", "critic.objective"} <= space.keys()
    assert {"critic.penalty", "critic.clip", "code.noise", "code.noise_decay", "critic.beta1"} <= space.keys()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"critic.stepz": ("choice", [1])}, "critic.stepz cannot be searched, it is not a setting"),
        ({"data.limit": ("randint", 1, 9)}, "data.limit cannot be searched, it decides the data"),
        ({"workers": ("randint", 1, 2)}, "workers cannot be searched"),
        ({"longest": ("randint", 1, 9)}, "longest cannot be searched"),
        ({"epochs": ("randint", 1, 9)}, "epochs cannot be searched, it decides the length of a run"),
        ({"iterations": ("randint", 1, 9)}, "iterations cannot be searched"),
        ({"kind": ("choice", ["text", "image"])}, "kind cannot be searched"),
        ({"vocabulary.size": ("randint", 9, 99)}, "vocabulary.size cannot be searched"),
        ({"log_every": ("randint", 9, 99)}, "log_every cannot be searched, it decides how a run is executed"),
        ({"critic.steps": ("randint", 0, 9)}, "critic.steps must be >= 1"),
        ({"critic.beta1": ("uniform", 0.0, 1.0)}, "critic.beta1 must be in"),
        ({"code.noise": ("loguniform", 0.0, 1.0)}, 'code.noise must be ("loguniform"'),
        ({"code.noise": ("uniform", 1.0, 0.5)}, "low < high"),
        ({"code.noise": ("choice", [])}, "code.noise must be"),
        ({"code.noise": ("normal", 0.0, 1.0)}, "code.noise must be"),
        ({"critic.steps": ("choice", [1, "two"])}, "critic.steps must be of type int"),
    ],
)
def test_a_wrong_space_is_refused(space: Space, message: str) -> None:
    with pytest.raises(ValueError, match="space wrong: ") as caught:
        check_space(space, preset("grammar"), "space wrong")
    assert message in str(caught.value)


def test_an_unknown_space_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="one of critic_objective, learning_rates"):
        load_space("stabilty", preset("grammar"))


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("search", ["random", "optuna"])
def test_only_the_first_trial_may_have_a_value_that_is_not_listed(search: str, steps: int, make_sweep: Make) -> None:
    space: Space = {"critic.steps": ("choice", [1, 3]), "code.noise": ("uniform", 0.0, 1.0)}
    sweep = make_sweep(space, 40, {"critic.steps": steps}, search=search)
    algorithm = make_search_algorithm(sweep, 0)
    drawn = []
    if search == "random":
        register_trainable("none", lambda config: None)
        algorithm.add_configurations({"any": {"run": "none", "config": domains(space), "num_samples": 40}})
        while trial := algorithm.next_trial():
            drawn.append(trial.config)
    else:
        algorithm.set_search_properties("score", "min", domains(space))
        for i in range(40):
            drawn.append(algorithm.suggest(str(i)))
            algorithm.on_trial_complete(str(i), {"score": 1.0 + i % 7})
    assert len(drawn) == 40 and drawn[0]["critic.steps"] == steps
    assert {each["critic.steps"] for each in drawn[1:]} == {1, 3}


def test_values_without_effect_are_named() -> None:
    experiment = preset("grammar")
    clipped = {"critic.objective": "wgan-clip", "critic.clip": 0.02, "critic.penalty": 3.0, "code.noise": 0.0}
    assert without_effect(clipped, experiment) == ["critic.penalty"]
    assert without_effect({"code.noise_decay": 0.99, "code.noise": 0.0}, experiment) == ["code.noise_decay"]
    assert without_effect({"critic.penalty": 3.0}, experiment) == []
    plain = {"critic.objective": "none", "critic.steps": 3, "prior.kind": "gaussian"}
    assert without_effect(plain, experiment) == ["critic.steps"]
    assert without_effect({"prior.kind": "gaussian", "generator.average": 0.5}, experiment) == ["generator.average"]


def test_mutations_are_clamped_to_the_space() -> None:
    space: Space = {"critic.beta1": ("uniform", 0.1, 0.9), "critic.steps": ("choice", [1, 3])}
    clamp = inside(space)
    assert clamp({"critic.beta1": 1.08, "critic.steps": 3}) == {"critic.beta1": 0.9, "critic.steps": 3}
    assert clamp({"critic.beta1": 0.01, "critic.steps": 1})["critic.beta1"] == 0.1


def test_mutable_settings_decide_no_tensor() -> None:
    assert not set(named(Settings, "mutable")) & set(named(Settings, "structural"))


@pytest.mark.parametrize("space", SPACES)
def test_population_based_training_mutates_every_mutable_setting_of_a_space(space: str) -> None:
    """encoder.weight_decay and decoder.weight_decay, which transfer searches, were once left out."""
    names = importlib.import_module(f"tune_spaces.{space}").SPACE
    found = mutations(names)
    assert set(names) - set(found) <= {"critic.objective", "encoder.marker_ratio", "decoder.conditioning"}
    if space == "transfer":
        assert {"encoder.weight_decay", "decoder.weight_decay"} <= found.keys()


def test_randint_includes_both_ends() -> None:
    domain = domains({"critic.steps": ("randint", 2, 3)})["critic.steps"]
    assert {domain.sample() for _ in range(99)} == {2, 3}
