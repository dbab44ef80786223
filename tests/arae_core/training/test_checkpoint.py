"""Checkpoints: loading returns what was saved, with other settings where that is possible."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from arae_core.model import Model
from arae_core.settings.declaration import named
from arae_core.settings.tree import with_settings
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
from tests.arae_core.training.conftest import EXTRA, FILES, MODEL_FILES, VOCABULARY, sign_again


def test_a_saved_checkpoint_is_loaded(checkpoint: Path, original: Path, state: TrainingState) -> None:
    loaded, vocabulary, extra = load_checkpoint(checkpoint)
    assert_same(weights(state), weights(loaded))
    assert (loaded.step, loaded.settings, loaded.spec, extra) == (7, state.settings, state.spec, EXTRA)
    assert torch.equal(loaded.draws.get_state(), state.draws.get_state())
    assert vocabulary is not None and vocabulary.decode([[4, 5]]) == VOCABULARY.decode([[4, 5]])
    found = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert [path.name for path in original.parent.iterdir()] == ["c"], "nothing is left beside it"
    assert json.loads((checkpoint / "settings.json").read_text())["critic.steps"] == 3
    assert read_about(checkpoint) == {}


def test_permissions_follow_the_umask(state: TrainingState, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "c", state, VOCABULARY, EXTRA)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert modes == {0o640} and (tmp_path / "c").stat().st_mode & 0o777 == 0o750


def test_a_model_of_images_has_no_vocabulary(tmp_path: Path) -> None:
    state = trained(image_settings(), 2)
    loaded, vocabulary, extra = load_checkpoint(save_checkpoint(tmp_path / "deep" / "c", state))
    assert (vocabulary, extra, loaded.spec) == (None, {}, state.spec)
    assert np.array_equal(Model.load(tmp_path / "deep" / "c").generate(11), Model(state, None).generate(11))


def test_an_exported_model_works_without_the_training_state(
    checkpoint: Path, state: TrainingState, tmp_path: Path
) -> None:
    exported = export_model(checkpoint, tmp_path / "m")
    assert {name for name in FILES if (exported / name).exists()} == set(MODEL_FILES)
    assert read_manifest(exported)["step"] == 7
    assert Model.load(exported).generate(11) == Model(state, VOCABULARY).generate(11)
    assert Model.load(exported).settings == state.settings
    (checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        export_model(checkpoint, tmp_path / "n")
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("conditioning", ["embedding", "separate"])
def test_classes_and_provenance_are_exported(conditioning: str, tmp_path: Path) -> None:
    spec = replace(VOCABULARY.spec, classes=("low", "high"))
    state = TrainingState.new(text_settings({"decoder.conditioning": conditioning}), spec)
    saved = save_checkpoint(tmp_path / "c", state, VOCABULARY, about={"run": "abc"})
    exported = export_model(saved, tmp_path / "exported")
    model = Model.load(exported)
    assert model.classes == ("low", "high") and model.state.hides_attribute
    assert_same(weights(state), weights(model.state))
    assert read_about(saved) == read_about(exported) == {"run": "abc"}
    (exported / "about.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        read_about(exported)


OTHERS: dict[str, Any] = {
    **{"kind": "image", "code.kind": "euclidean", "code.size": 5, "prior.kind": "gaussian", "generator.noise_size": 3},
    **{f"{part}.hidden": (3,) for part in ("encoder", "decoder", "generator", "critic", "classifier")},
    **{f"{part}.normalization": "layer" for part in ("encoder", "decoder", "classifier")},
    **{f"{part}.normalization": "none" for part in ("generator", "critic")},
    **{"encoder.embedding": 7, "encoder.pooling": "mean", "encoder.marker_ratio": 3.0},
    **{"decoder.embedding": 7, "decoder.conditioning": "separate", "decoder.attribute_embedding": 3},
    "decoder.logits_per_pixel": 2,
}
"""Another value of every structural setting. The kinds of encoder and decoder follow from `kind`."""


@pytest.mark.parametrize("name", OTHERS)
def test_structural_settings_must_be_those_of_the_checkpoint(name: str, checkpoint: Path, state: TrainingState) -> None:
    settings = with_settings(state.settings, {name: OTHERS[name]})
    message = f"^{re.escape(name)} must be .* as in the checkpoint {checkpoint}, got {re.escape(repr(OTHERS[name]))}$"
    with pytest.raises(ValueError, match=message):
        load_checkpoint(checkpoint, settings=settings)
    assert {*OTHERS, "encoder.kind", "decoder.kind"} == set(named(type(settings), "structural"))


def test_a_trained_prior_cannot_become_a_fitted_one(checkpoint: Path, state: TrainingState) -> None:
    settings = with_settings(state.settings, {"critic.objective": "none"})
    with pytest.raises(ValueError, match=r"^prior\.kind must be 'generator' as in the checkpoint .*'fitted-gaussian'"):
        load_checkpoint(checkpoint, settings=settings)


def test_new_rates_are_used_with_the_saved_moments(tmp_path: Path) -> None:
    """Population based training copies a checkpoint and changes its rates."""
    state = trained(image_settings(), 3)
    save_checkpoint(tmp_path / "c", state)
    changes = {"critic.learning_rate": 0.25, "critic.beta1": 0.125, "encoder.adversarial_weight": 3.0, "seed": 99}
    loaded, _, _ = load_checkpoint(
        tmp_path / "c", settings=with_settings(state.settings, changes | {"generator.average": 0.9})
    )
    critic, before = loaded.optimizers["critic"], state.optimizers["critic"]
    assert (critic.param_groups[0]["lr"], critic.param_groups[0]["betas"]) == (0.25, (0.125, 0.999))
    assert loaded.settings.encoder.adversarial_weight == 3.0
    for mine, theirs in zip(loaded.critic.parameters(), state.critic.parameters(), strict=True):
        assert torch.equal(critic.state[mine]["exp_avg_sq"], before.state[theirs]["exp_avg_sq"])
    average, prior = (dict(each.state_dict()) for each in (loaded.modules["average"], state.modules["prior"]))
    assert_same(average, prior)  # a new average starts at the weights


def test_random_numbers_of_another_kind_of_device_restart_from_seed_and_step() -> None:
    """Otherwise a moved run would repeat the random numbers of its beginning."""
    state = new_state(text_settings())
    state.step = 7
    _load_training(state, {"draws": torch.zeros(16, dtype=torch.uint8)})
    expected = torch.Generator().manual_seed(state.settings.seed + 7)
    assert torch.equal(state.draws.get_state(), expected.get_state())


@pytest.mark.parametrize(
    ("changes", "old"),
    [
        ({"generator.average": 0.9}, {"generator.kind": "mlp", "code.unit_sphere": True}),
        (
            {"code.kind": "euclidean", "prior.kind": "gaussian"},
            {"generator.kind": "gaussian", "code.unit_sphere": False},
        ),
        ({"critic.objective": "none"}, {"generator.kind": "gaussian", "code.unit_sphere": True}),
    ],
)
def test_checkpoints_of_the_last_release_are_loaded(
    changes: dict[str, Any], old: dict[str, Any], tmp_path: Path
) -> None:
    """The prior was called generator then, in settings, weights and moments."""
    state = trained(image_settings(changes), 3)
    folder = save_checkpoint(tmp_path / "c", state)
    flat = json.loads((folder / "settings.json").read_text())
    new = ("prior.kind", "code.kind", "encoder.kind", "decoder.kind")
    kept = {name: value for name, value in flat.items() if name not in new}
    (folder / "settings.json").write_text(json.dumps(kept | old))
    for name in ("model.safetensors", "training.safetensors"):
        tensors = load_file(folder / name)
        save_file({re.sub(r"^prior\.", "generator.", key): value for key, value in tensors.items()}, folder / name)
    sign_again(folder)
    loaded, _, _ = load_checkpoint(folder)
    assert_same(weights(state), weights(loaded))
    again, before = save_checkpoint(tmp_path / "again", loaded), save_checkpoint(tmp_path / "before", state)
    assert_same(load_file(again / "training.safetensors"), load_file(before / "training.safetensors"))
    settings = (loaded.settings.chosen("prior.kind")[0], loaded.settings.code.kind)
    assert settings == (state.settings.chosen("prior.kind")[0], state.settings.code.kind)
