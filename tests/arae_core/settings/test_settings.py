"""Declarations of settings: allowed values, dotted names, settings without effect, names of earlier versions."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arae_core.settings import NORMALIZED, CriticSettings, EncoderSettings, Settings
from arae_core.settings.declaration import ANYTHING, declarations, named, without_effect
from arae_core.settings.tree import flatten, with_settings
from arae_core.settings.upgrade import upgraded
from tests.arae_core.small import settings_of, text_settings

PARTS = ("encoder", "decoder", "generator", "critic", "classifier")
ENTRIES = declarations(Settings)
DEFAULTS = flatten(Settings())
BAD_VALUES: tuple[tuple[list[Any], str], ...] = (
    (["other"], "kind precision initialization cuda_graphs encoder.pooling encoder.updates generator.output"),
    (["other"], "critic.objective decoder.conditioning encoder.kind decoder.kind code.kind prior.kind"),
    (["Adam"], " ".join(f"{part}.optimizer {part}.normalization" for part in PARTS)),
    ([""], "vocabulary.tokenizer"),
    ([5], "vocabulary.size"),
    ([0, -1], "batch_size epochs longest critic.steps code.size generator.noise_size"),
    ([0], "encoder.embedding decoder.embedding decoder.attribute_embedding"),
    ([(), (0,), (3, -1)], "encoder.hidden decoder.hidden"),
    ([(0,), (7, 0)], "generator.hidden critic.hidden classifier.hidden"),
    ([-0.1, math.inf], "gradient_clip temperature code.noise critic.penalty decoder.alignment_weight"),
    ([-0.1, math.inf], "encoder.adversarial_weight encoder.attribute_weight"),
    ([-0.1, 1.0], "encoder.word_dropout decoder.word_dropout generator.average"),
    ([0.0, -1e-3, math.inf], " ".join(f"{part}.learning_rate" for part in PARTS)),
    ([-0.1, 1.0], " ".join(f"{part}.beta1 {part}.beta2" for part in PARTS)),
    ([-0.1, math.inf], " ".join(f"{part}.weight_decay" for part in PARTS)),
    ([-1], "iterations"),
    ([-1, 2**32], "seed"),
    ([-0.1, 1.1], "cooldown"),
    ([-0.1, 1.0, math.inf], "encoder.marker_ratio"),
    ([-0.1, 1.1e6, 1e300, math.inf], "decoder.contrast"),
    ([0, 3], "decoder.logits_per_pixel"),
    ([0.0, 1.1], "code.noise_decay"),
    ([0.0, math.inf], "critic.clip"),
)
REFUSED = [(name, value) for values, names in BAD_VALUES for name in names.split() for value in values]
NANS = [(name, math.nan) for name, value in DEFAULTS.items() if isinstance(value, float)]


def test_every_bound_is_tested() -> None:
    tested = {name for name, _ in REFUSED}
    assert tested == {name for name, entry in ENTRIES.items() if entry.declaration.bound is not ANYTHING}
    assert {name for name, value in DEFAULTS.items() if isinstance(value, bool)} == set(DEFAULTS) - tested


def test_every_setting_has_help() -> None:
    assert all(entry.help.endswith(".") for entry in ENTRIES.values())


@pytest.mark.parametrize(("name", "value"), REFUSED + NANS)
def test_refused_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r" must be ") as caught:
        with_settings(Settings(), {name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} must be ") and message.endswith(f"got {value!r}") and "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("batch_size", "64", "of type int"),
        ("batch_size", 2.5, "of type int"),
        ("batch_size", True, "of type int"),
        ("critic.learning_rate", "fast", "of type float"),
        ("critic.learning_rate", None, "of type float"),
        ("encoder.adversarial_each_critic_step", 1, "of type bool"),
        ("kind", 3, "of type str"),
        ("critic.hidden", 300, "a list"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        with_settings(Settings(), {name: value})
    assert str(caught.value) == f"{name} must be {allowed}, got {value!r}"
    with pytest.raises(ValueError, match=r"^critic\.hidden must be of type int, got 'wide'"):
        with_settings(Settings(), {"critic.hidden": [7, "wide"]})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("critic.step", "critic.steps"), ("batchsize", "batch_size"), ("zzzzzz", ""), ("critic", ""), ("critic.", "")],
)
def test_unknown_names_are_refused_with_the_nearest_one(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown setting {wrong}") as caught:
        with_settings(Settings(), {wrong: 1})
    assert not near or str(caught.value).endswith(f"did you mean {near}?")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("text", {"critic.normalization": "batch"}, r"^critic\.normalization must not be 'batch' .*objective wgan-gp"),
        ("text", {"batch_size": 1, "generator.normalization": "batch"}, r"^batch_size must be >= 2 with generator\."),
        ("text", {"encoder.hidden": (7, 5)}, r"^encoder\.hidden must be layers of one width for an LSTM, got \(7, 5\)"),
        ("text", {"decoder.kind": "mlp"}, r"^decoder\.kind must be one of auto, lstm with kind text, got 'mlp'"),
        ("image", {"encoder.kind": "lstm"}, r"^encoder\.kind must be one of auto, mlp with kind image, got 'lstm'"),
        (
            "text",
            {"critic.objective": "none", "prior.kind": "generator"},
            r"^prior\.kind must be .*trains no generator",
        ),
        ("text", {"decoder.conditioning": "separate", "decoder.alignment_weight": 1.0}, r"^decoder\.conditioning must"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(kind: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(kind, changes)


def test_changes_are_checked_together() -> None:
    changed = {"critic.normalization": "batch", "critic.objective": "wgan-clip"}
    assert with_settings(Settings(), changed).critic == CriticSettings(normalization="batch", objective="wgan-clip")
    assert Settings(kind="image", encoder=EncoderSettings(hidden=(7, 5))).encoder.hidden == (7, 5)


def test_names_are_paths_into_the_tree() -> None:
    assert next(iter(DEFAULTS)) == "kind" and list(ENTRIES) == list(DEFAULTS)
    assert {name: entry.default for name, entry in ENTRIES.items()} == DEFAULTS
    changed = with_settings(Settings(), {"critic.steps": 7, "batch_size": 3, "generator.hidden": [11, 5]})
    assert (changed.critic.steps, changed.batch_size, changed.generator.hidden) == (7, 3, (11, 5))
    assert with_settings(changed, DEFAULTS) == Settings() == with_settings(Settings(), {})
    with pytest.raises(FrozenInstanceError):
        changed.batch_size = 3  # type: ignore[misc]
    assert replace(changed, batch_size=5).batch_size == 5


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "batch_size": st.integers(1, 10**6),
            "seed": st.integers(0, 2**32 - 1),
            "code.noise_decay": st.floats(0, 1, exclude_min=True),
            "critic.hidden": st.lists(st.integers(1, 999), max_size=5).map(tuple),
            "encoder.learning_rate": st.floats(1e-12, 1e6),
            "generator.output": st.sampled_from(["linear", "tanh", "sphere"]),
        },
    )
)
def test_flat_settings_round_trip_through_json_types(values: dict[str, Any]) -> None:
    settings = with_settings(Settings(), values)
    flat = flatten(settings)
    assert list(flat) == list(DEFAULTS) and flat == DEFAULTS | values
    assert with_settings(Settings(), {n: list(v) if isinstance(v, tuple) else v for n, v in flat.items()}) == settings


def test_whole_numbers_convert_between_int_and_float() -> None:
    settings = with_settings(Settings(), {"critic.penalty": 10, "batch_size": 32.0})
    assert (type(settings.critic.penalty), type(settings.batch_size)) == (float, int)


@pytest.mark.parametrize(
    ("changes", "without", "with_effect"),
    [
        ({}, {"critic.clip", "decoder.logits_per_pixel"}, {"critic.penalty", "generator.*", "longest"}),
        ({"critic.objective": "wgan-clip"}, {"critic.penalty"}, {"critic.clip"}),
        ({"critic.objective": "none"}, {"critic.*", "generator.*", "encoder.adversarial_weight"}, {"critic.objective"}),
        ({"prior.kind": "gaussian"}, {"generator.*"}, {"prior.kind", "critic.*"}),
        ({"kind": "image"}, {"vocabulary.*", "longest", "encoder.word_dropout"}, {"decoder.logits_per_pixel"}),
        ({"code.noise": 0.0}, {"code.noise_decay"}, {"code.noise"}),
        ({"kind": "image", "initialization": "remembering"}, {"initialization"}, {"encoder.updates"}),
        ({"kind": "image", "critic.objective": "none"}, {"initialization", "encoder.updates"}, set()),
        ({"critic.objective": "none"}, {"encoder.adversarial_each_critic_step"}, {"encoder.updates", "initialization"}),
        (
            {"encoder.adversarial_weight": 0.0, "encoder.attribute_weight": 0.0},
            {"encoder.adversarial_each_critic_step", "classifier.*"},
            {"encoder.updates"},  # it still decides whether step (1) or step (2) comes first
        ),
        (
            {"encoder.attribute_weight": 0.0, "decoder.alignment_weight": 0.1},
            {"classifier.hidden", "classifier.normalization"},
            {"classifier.learning_rate"},
        ),
        ({}, {"classifier.normalization"}, {"critic.normalization", "generator.normalization"}),
        ({"classifier.hidden": (5, 3)}, set(), {"classifier.normalization"}),
        ({"critic.hidden": (5,), "generator.hidden": ()}, {"critic.normalization", "generator.normalization"}, set()),
        ({"generator.hidden": (5,)}, set(), {"generator.normalization"}),
        ({"kind": "image"}, {"classifier.normalization"}, {"encoder.normalization", "decoder.normalization"}),
        ({"encoder.optimizer": "sgd"}, {"encoder.beta1", "encoder.beta2"}, {"decoder.beta1", "encoder.learning_rate"}),
    ],
)
def test_settings_without_effect_are_found(changes: dict[str, Any], without: set[str], with_effect: set[str]) -> None:
    why = without_effect(with_settings(Settings(), changes))
    assert _expanded(without, changes) <= set(why) and not _expanded(with_effect, changes) & set(why)
    assert all(reason.split(" is ")[0] in DEFAULTS for reason in why.values())


def _expanded(names: set[str], but: dict[str, Any]) -> set[str]:
    """Replace NAME.* by all settings of the section, without those that `but` has set or that depend on others."""
    sections = {n.removesuffix("*") for n in names if n.endswith(".*")}
    inner = {n for n in DEFAULTS if n.startswith(tuple(sections) or "?") and n not in but}
    return {n for n in names if not n.endswith(".*")} | (inner - {"critic.clip"})


def test_updates_matter_for_an_aligned_or_attribute_free_autoencoder() -> None:
    plain = {"critic.objective": "none", "encoder.attribute_weight": 0.0, "decoder.alignment_weight": 0.0}
    assert without_effect(text_settings(plain))["encoder.updates"] == "critic.objective is none"
    for weight in ("encoder.attribute_weight", "decoder.alignment_weight"):
        assert "encoder.updates" not in without_effect(text_settings(plain | {weight: 0.5}))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"generator", "critic", "classifier"}),
        ({"prior.kind": "gaussian"}, {"critic", "classifier"}),
        ({"critic.objective": "none"}, {"classifier"}),
        ({"encoder.attribute_weight": 0.0}, {"generator", "critic"}),
        ({f"{part}.hidden": (5,) for part in ("generator", "critic", "classifier")}, {"generator"}),
        ({f"{part}.hidden": () for part in ("generator", "critic", "classifier")}, set()),
        ({"kind": "image"}, {"encoder", "decoder", "generator", "critic"}),
    ],
)
def test_batch_normalization_counts_only_where_a_layer_has_it(changes: dict[str, Any], parts: set[str]) -> None:
    base: dict[str, Any] = {f"{part}.normalization": "batch" for part in NORMALIZED}
    base |= {"critic.objective": "wgan-clip", "encoder.attribute_weight": 1.0}
    base |= {f"{part}.hidden": (5, 3) for part in ("generator", "critic", "classifier")}
    found = with_settings(Settings(), base | changes).batch_normalized
    assert found == [f"{part}.normalization" for part in NORMALIZED if part in parts]


def test_facts_of_a_section_hold_for_its_settings() -> None:
    assert {"kind", "longest", "vocabulary.tokenizer", "vocabulary.lowercase"} == set(named(Settings, "prepares")) - {
        "vocabulary.size"
    }
    assert {f"{part}.weight_decay" for part in PARTS} <= set(named(Settings, "mutable"))
    assert not set(named(Settings, "mutable")) & set(named(Settings, "structural"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"generator.kind": "mlp", "code.unit_sphere": True}, {"prior.kind": "auto", "code.kind": "sphere"}),
        (
            {"generator.kind": "gaussian", "code.unit_sphere": False},
            {"prior.kind": "gaussian", "code.kind": "euclidean"},
        ),
        (
            {"generator.kind": "gaussian", "critic.objective": "none"},  # it was the fitted Gaussian all the same
            {"prior.kind": "auto", "critic.objective": "none"},
        ),
    ],
)
def test_stored_settings_of_earlier_versions_get_their_new_names(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert upgraded(old) == new
    assert upgraded(new) == new
    with_settings(Settings(), upgraded(old))
