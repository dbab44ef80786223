"""Every field says what it allows, by the one name that a setting has."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from arae_core.settings.relevance import ignored
from hypothesis import given
from hypothesis import strategies as st

from arae_core.settings import NORMALIZED, CriticSettings, EncoderSettings, GeneratorSettings, Settings
from arae_core.settings.tree import flatten, with_settings
from tests.arae_core.small import text_settings

PARTS = ("encoder", "decoder", "generator", "critic", "classifier")
DEFAULTS = flatten(Settings())
WORDS: dict[str, list[Any]] = {
    "kind": ["Text", "audio"],
    "precision": ["half"],
    "initialization": ["xavier"],
    "cuda_graphs": ["on"],
    "encoder.pooling": ["first"],
    "encoder.updates": ["once"],
    "vocabulary.tokenizer": [""],
    "generator.kind": ["flow"],
    "generator.output": ["ball"],
    "critic.objective": ["gan"],
    "decoder.conditioning": ["attention"],
    **{f"{part}.normalization": ["spectral"] for part in PARTS},
    **{f"{part}.optimizer": ["Adam"] for part in PARTS},
}
NUMBERS: dict[str, list[Any]] = {
    "batch_size": [0, -1],
    "epochs": [0],
    "iterations": [-1],
    "seed": [-1, 2**32],
    "longest": [0],
    "cooldown": [-0.1, 1.1],
    "gradient_clip": [-0.1, math.inf],
    "temperature": [-0.5, math.inf],
    "vocabulary.size": [5],
    "encoder.embedding": [0],
    "encoder.hidden": [(), (0,), (3, -1), (3, 5)],
    "encoder.word_dropout": [-0.1, 1.0],
    "encoder.marker_ratio": [-0.1, 1.0, math.inf],
    "encoder.adversarial_weight": [-1.0, math.inf],
    "encoder.attribute_weight": [-1.0, math.inf],
    "decoder.embedding": [0],
    "decoder.hidden": [(), (0,), (3, 5)],
    "decoder.contrast": [-0.1, 1.1e6, 1e300, math.inf, math.nan],
    "decoder.alignment_weight": [-0.1, math.inf],
    "decoder.word_dropout": [-0.1, 1.0],
    "decoder.attribute_embedding": [0],
    "decoder.logits_per_pixel": [0, 3],
    "code.size": [0],
    "code.noise": [-0.1, math.inf],
    "code.noise_decay": [0.0, 1.1],
    "generator.noise_size": [0],
    "generator.hidden": [(0,)],
    "generator.average": [-0.1, 1.0],
    "critic.steps": [0],
    "critic.penalty": [-1.0, math.inf],
    "critic.clip": [0.0, math.inf],
    "critic.hidden": [(7, 0)],
    "classifier.hidden": [(7, 0)],
}
for part in PARTS:
    NUMBERS[f"{part}.learning_rate"] = [0.0, -1e-3, math.inf]
    NUMBERS[f"{part}.beta1"] = [-0.1, 1.0]
    NUMBERS[f"{part}.beta2"] = [-0.1, 1.0]
    NUMBERS[f"{part}.weight_decay"] = [-0.1, math.inf]
BAD = [(name, value) for table in (WORDS, NUMBERS) for name, values in table.items() for value in values]
NANS = [(name, math.nan) for name, value in DEFAULTS.items() if isinstance(value, float)]
FREE = {"vocabulary.lowercase", "encoder.adversarial_each_critic_step", "code.unit_sphere"}


def test_every_setting_has_values_that_are_refused() -> None:
    assert set(WORDS) | set(NUMBERS) | FREE == set(DEFAULTS)
    assert {name for name, value in DEFAULTS.items() if isinstance(value, bool)} == FREE


@pytest.mark.parametrize(("name", "value"), BAD + NANS)
def test_values_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r" must be ") as caught:
        with_settings(Settings(), {name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} must be ")
    assert message.endswith(f"got {value!r}") and "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("batch_size", "64", "int"),
        ("batch_size", 2.5, "int"),
        ("batch_size", True, "int"),
        ("critic.learning_rate", "fast", "float"),
        ("critic.learning_rate", True, "float"),
        ("critic.learning_rate", None, "float"),
        ("code.unit_sphere", 1, "bool"),
        ("kind", 3, "str"),
    ],
)
def test_values_of_another_type_are_refused_by_name(name: str, value: object, kind: str) -> None:
    with pytest.raises(ValueError, match="of type") as caught:
        with_settings(Settings(), {name: value})
    assert str(caught.value) == f"{name} must be of type {kind}, got {value!r}"


def test_a_list_holds_numbers_of_its_type() -> None:
    with pytest.raises(ValueError, match=r"^critic\.hidden must be a list, got 300"):
        with_settings(Settings(), {"critic.hidden": 300})
    with pytest.raises(ValueError, match=r"^critic\.hidden must be of type int, got 'wide'"):
        with_settings(Settings(), {"critic.hidden": [7, "wide"]})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("critic.step", "critic.steps"), ("batchsize", "batch_size"), ("encoder.learning-rate", "encoder.learning_rate")],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match="unknown setting") as caught:
        with_settings(Settings(), {wrong: 1})
    assert str(caught.value) == f"unknown setting {wrong}; did you mean {right}?"


@pytest.mark.parametrize("name", ["zzzzzz", "critic", "critic.", ""])
def test_a_part_or_nonsense_is_no_setting(name: str) -> None:
    with pytest.raises(ValueError, match=r"^unknown setting"):
        with_settings(Settings(), {name: 1})


def test_settings_that_exclude_each_other_name_both() -> None:
    with pytest.raises(ValueError, match=r"^critic\.normalization .* critic\.objective wgan-gp"):
        Settings(critic=CriticSettings(normalization="batch"))
    Settings(critic=CriticSettings(normalization="batch", objective="wgan-clip"))
    with pytest.raises(ValueError, match=r"^batch_size must be >= 2 with generator\.normalization batch, got 1"):
        Settings(batch_size=1, generator=GeneratorSettings(normalization="batch"))
    assert Settings(kind="image", encoder=EncoderSettings(hidden=(7, 5))).encoder.hidden == (7, 5)
    together = {"critic.normalization": "batch", "critic.objective": "wgan-clip"}
    assert with_settings(Settings(), together).critic.objective == "wgan-clip"


def test_names_are_paths_into_the_tree() -> None:
    assert next(iter(DEFAULTS)) == "kind"
    assert DEFAULTS["critic.steps"] == Settings().critic.steps == 5
    changed = with_settings(Settings(), {"critic.steps": 7, "batch_size": 3, "generator.hidden": [11, 5]})
    assert (changed.critic.steps, changed.batch_size, changed.generator.hidden) == (7, 3, (11, 5))
    assert with_settings(changed, DEFAULTS) == Settings()
    assert with_settings(Settings(), flatten(changed)) == changed
    assert with_settings(Settings(), {}) == Settings()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "batch_size": st.integers(1, 10**6),
            "seed": st.integers(0, 2**32 - 1),
            "code.noise": st.floats(0, 1e6),
            "code.noise_decay": st.floats(0, 1, exclude_min=True),
            "critic.hidden": st.lists(st.integers(1, 999), max_size=5),
            "encoder.learning_rate": st.floats(1e-12, 1e6),
            "generator.output": st.sampled_from(["linear", "tanh", "sphere"]),
        },
    )
)
def test_settings_come_back_from_their_flat_form(values: dict[str, Any]) -> None:
    settings = with_settings(Settings(), values)
    flat = flatten(settings)
    assert list(flat) == list(DEFAULTS)
    assert {name: flat[name] for name in values} == values | {
        name: tuple(value) for name, value in values.items() if isinstance(value, list)
    }
    assert with_settings(Settings(), {n: list(v) if isinstance(v, tuple) else v for n, v in flat.items()}) == settings


def test_whole_numbers_are_numbers_of_either_kind() -> None:
    settings = with_settings(Settings(), {"critic.penalty": 10, "batch_size": 32.0})
    assert (type(settings.critic.penalty), type(settings.batch_size)) == (float, int)


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().batch_size = 3  # type: ignore[misc]
    assert replace(Settings(), batch_size=3).batch_size == 3


@pytest.mark.parametrize(
    ("changes", "without_effect", "with_effect"),
    [
        ({}, {"critic.clip", "decoder.logits_per_pixel"}, {"critic.penalty", "generator.*", "longest"}),
        ({"critic.objective": "wgan-clip"}, {"critic.penalty"}, {"critic.clip"}),
        ({"critic.objective": "none"}, {"critic.*", "generator.*", "encoder.adversarial_weight"}, {"critic.objective"}),
        ({"generator.kind": "gaussian"}, {"generator.*"}, {"generator.kind", "critic.*"}),
        ({"kind": "image"}, {"vocabulary.*", "longest", "encoder.word_dropout"}, {"decoder.logits_per_pixel"}),
        ({"code.noise": 0.0}, {"code.noise_decay"}, {"code.noise"}),
        ({"kind": "image", "initialization": "remembering"}, {"initialization"}, {"encoder.updates"}),
        ({"kind": "image", "critic.objective": "none"}, {"initialization", "encoder.updates"}, set()),
        ({"critic.objective": "none"}, {"encoder.adversarial_each_critic_step"}, {"encoder.updates", "initialization"}),
        (
            {"encoder.adversarial_weight": 0.0, "encoder.attribute_weight": 0.0},
            {"encoder.adversarial_each_critic_step", "classifier.*"},
            {"encoder.updates"},  # with a critic it still says which of steps (1) and (2) comes first
        ),
        (
            {"encoder.attribute_weight": 0.0, "decoder.alignment_weight": 0.1},
            {"classifier.hidden", "classifier.normalization"},
            {"classifier.*", "classifier.learning_rate"},
        ),
        ({}, {"classifier.normalization"}, {"critic.normalization", "generator.normalization"}),
        ({"classifier.hidden": (5, 3)}, set(), {"classifier.normalization"}),
        ({"critic.hidden": (5,), "generator.hidden": ()}, {"critic.normalization", "generator.normalization"}, set()),
        ({"generator.hidden": (5,)}, set(), {"generator.normalization"}),
        ({"kind": "image"}, {"classifier.normalization"}, {"encoder.normalization", "decoder.normalization"}),
        ({"encoder.optimizer": "sgd"}, {"encoder.beta1", "encoder.beta2"}, {"decoder.beta1", "encoder.learning_rate"}),
    ],
)
def test_settings_without_effect_are_told(
    changes: dict[str, Any], without_effect: set[str], with_effect: set[str]
) -> None:
    why = ignored(with_settings(Settings(), changes))
    assert without_effect <= set(why) and not with_effect & set(why)
    assert all(name.removesuffix(".*") in DEFAULTS or name.endswith(".*") for name in why)
    assert all(reason.split(" is ")[0] in DEFAULTS for reason in why.values())


def test_updates_of_an_autoencoder_that_is_aligned_count() -> None:
    plain = {"critic.objective": "none", "encoder.attribute_weight": 0.0, "decoder.alignment_weight": 0.0}
    assert ignored(text_settings(plain))["encoder.updates"] == "critic.objective is none"
    for weight in ("encoder.attribute_weight", "decoder.alignment_weight"):
        assert "encoder.updates" not in ignored(text_settings(plain | {weight: 0.5}))
        assert "encoder.updates" in ignored(text_settings(plain | {weight: 0.5}), classes=False)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"generator", "critic", "classifier"}),
        ({"generator.kind": "gaussian"}, {"critic", "classifier"}),
        ({"critic.objective": "none"}, {"classifier"}),
        ({"encoder.attribute_weight": 0.0}, {"generator", "critic"}),
        ({f"{part}.hidden": (5,) for part in ("generator", "critic", "classifier")}, {"generator"}),
        ({f"{part}.hidden": () for part in ("generator", "critic", "classifier")}, set()),
        ({"kind": "image"}, {"encoder", "decoder", "generator", "critic"}),
    ],
)
def test_batches_are_normalized_where_there_is_something_to_normalize(changes: dict[str, Any], parts: set[str]) -> None:
    """Elsewhere a batch of one example is no reason to refuse anything."""
    base: dict[str, Any] = {f"{part}.normalization": "batch" for part in NORMALIZED}
    base |= {"critic.objective": "wgan-clip", "encoder.attribute_weight": 1.0}
    base |= {f"{part}.hidden": (5, 3) for part in ("generator", "critic", "classifier")}
    found = with_settings(Settings(), base | changes).batch_normalized
    assert found == [f"{part}.normalization" for part in NORMALIZED if part in parts]
