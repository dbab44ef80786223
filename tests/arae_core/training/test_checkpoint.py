"""A checkpoint comes back as it was, or is refused with its name and a reason."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Model
from arae_core.settings import VocabularySettings
from arae_core.settings.tree import flatten, with_settings
from arae_core.training.checkpoint import (
    _load_training,
    export_model,
    load_checkpoint,
    read_about,
    read_manifest,
    save_checkpoint,
)
from arae_core.training.state import TrainingState
from tests.arae_core.small import assert_same, image_settings, new_state, text_settings, trained, weights

VOCABULARY = Vocabulary.train(["one two three"], VocabularySettings(tokenizer="spaces"))
EXTRA: dict[str, Any] = {"best": 1.5, "run": "abc", "history": [1, 2, None]}


def saved(folder: Path) -> TrainingState:
    """A small model of sentences with every kind of file, in `folder`."""
    state = TrainingState.new(text_settings({"generator.average": 0.9}), VOCABULARY.spec)
    state.step = 7
    save_checkpoint(folder, state, VOCABULARY, EXTRA)
    return state


FILES = [
    "manifest.json",
    "settings.json",
    "model.safetensors",
    "training.safetensors",
    "training.json",
    "vocabulary/tokenizer.json",
    "vocabulary/vocabulary.json",
]


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    state = saved(tmp_path / "c")
    loaded, vocabulary, extra = load_checkpoint(tmp_path / "c")
    assert_same(weights(state), weights(loaded))
    assert (loaded.step, loaded.settings, loaded.spec, extra) == (7, state.settings, state.spec, EXTRA)
    assert torch.equal(loaded.draws.get_state(), state.draws.get_state())
    assert vocabulary is not None and vocabulary.decode([[4, 5]]) == VOCABULARY.decode([[4, 5]])
    found = {str(path.relative_to(tmp_path / "c")) for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["c"], "nothing is left beside it"
    assert json.loads((tmp_path / "c" / "settings.json").read_text())["critic.steps"] == 3


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved(tmp_path / "c")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert modes == {0o640} and (tmp_path / "c").stat().st_mode & 0o777 == 0o750


def test_a_model_of_images_has_no_vocabulary(tmp_path: Path) -> None:
    state = trained(image_settings(), 2)
    loaded, vocabulary, extra = load_checkpoint(save_checkpoint(tmp_path / "deep" / "c", state))
    assert (vocabulary, extra, loaded.spec) == (None, {}, state.spec)
    assert np.array_equal(Model.load(tmp_path / "deep" / "c").generate(11), Model(state, None).generate(11))


def test_where_a_model_comes_from_is_exported_with_it(tmp_path: Path) -> None:
    state = saved(tmp_path / "c")
    assert read_about(tmp_path / "c") == {}
    save_checkpoint(tmp_path / "d", state, VOCABULARY, EXTRA, {"run": "abc"})
    exported = export_model(tmp_path / "d", tmp_path / "exported")
    assert read_about(tmp_path / "d") == read_about(exported) == {"run": "abc"}
    (exported / "about.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        read_about(exported)


@pytest.mark.parametrize("conditioning", ["embedding", "separate"])
def test_classes_are_kept_by_name(conditioning: str, tmp_path: Path) -> None:
    spec = replace(VOCABULARY.spec, classes=("low", "high"))
    state = TrainingState.new(text_settings({"decoder.conditioning": conditioning}), spec)
    save_checkpoint(tmp_path / "c", state, VOCABULARY)
    model = Model.load(export_model(tmp_path / "c", tmp_path / "exported"))
    assert model.classes == ("low", "high") and model.state.hides_attribute
    assert_same(weights(state), weights(model.state))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code.size": 5}, "code.size must be 7 as in the checkpoint {}, got 5"),
        ({"critic.hidden": (3,)}, "critic.hidden must be (13, 5) as in the checkpoint {}, got (3,)"),
        ({"encoder.marker_ratio": 3.0}, "encoder.marker_ratio must be 0.0 as in the checkpoint {}, got 3.0"),
        ({"kind": "image"}, "kind must be 'text' as in the checkpoint {}, got 'image'"),
    ],
)
def test_other_sizes_in_the_settings_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = saved(tmp_path / "c")
    with pytest.raises(ValueError, match="as in the checkpoint") as caught:
        load_checkpoint(tmp_path / "c", settings=with_settings(state.settings, changes))
    assert str(caught.value) == message.format(tmp_path / "c")


def test_a_plain_autoencoder_is_not_continued_as_an_arae(tmp_path: Path) -> None:
    state = saved(tmp_path / "c")
    with pytest.raises(
        ValueError, match=r"critic.objective must be another than none as in the checkpoint .*, got 'none'"
    ):
        load_checkpoint(tmp_path / "c", settings=with_settings(state.settings, {"critic.objective": "none"}))


def test_other_rates_are_taken_and_the_moments_kept(tmp_path: Path) -> None:
    """What population-based training does: another member's weights and moments, its own rates."""
    state = trained(image_settings(), 3)
    save_checkpoint(tmp_path / "c", state)
    changes = {"critic.learning_rate": 0.25, "critic.beta1": 0.125, "encoder.adversarial_weight": 3.0, "seed": 99}
    loaded, _, _ = load_checkpoint(tmp_path / "c", settings=with_settings(state.settings, changes))
    critic, before = loaded.optimizers["critic"], state.optimizers["critic"]
    assert (critic.param_groups[0]["lr"], critic.param_groups[0]["betas"]) == (0.25, (0.125, 0.999))
    assert loaded.settings.encoder.adversarial_weight == 3.0
    for mine, theirs in zip(loaded.critic.parameters(), state.critic.parameters(), strict=True):
        assert torch.equal(critic.state[mine]["exp_avg_sq"], before.state[theirs]["exp_avg_sq"])


def test_an_average_that_was_not_kept_starts_at_the_weights(tmp_path: Path) -> None:
    state = trained(image_settings(), 3)
    save_checkpoint(tmp_path / "c", state)
    loaded, _, _ = load_checkpoint(tmp_path / "c", settings=with_settings(state.settings, {"generator.average": 0.9}))
    assert_same(dict(loaded.modules["average"].state_dict()), dict(state.prior.state_dict()))


def test_an_exported_model_works_without_the_training_state(tmp_path: Path) -> None:
    state = saved(tmp_path / "c")
    export_model(tmp_path / "c", tmp_path / "m")
    assert {name for name in FILES if (tmp_path / "m" / name).exists()} == {n for n in FILES if "training" not in n}
    assert read_manifest(tmp_path / "m")["step"] == 7
    assert Model.load(tmp_path / "m").generate(11) == Model(state, VOCABULARY).generate(11)
    assert flatten(Model.load(tmp_path / "m").settings) == flatten(state.settings)
    (tmp_path / "c" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        export_model(tmp_path / "c", tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_draws_of_another_kind_of_device_begin_anew_by_seed_and_step() -> None:
    """Else a run that moves would draw once more what it has drawn at its beginning."""
    state = new_state(text_settings())
    state.step = 7
    _load_training(state, {"draws": torch.zeros(16, dtype=torch.uint8)})
    expected = torch.Generator().manual_seed(state.settings.seed + 7)
    assert torch.equal(state.draws.get_state(), expected.get_state())
