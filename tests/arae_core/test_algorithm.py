"""The steps are the paper's: iterations equal an independent reference, whatever is set."""

from typing import Any

import pytest
import torch

from arae_core.algorithm import classify, criticise, iteration, reconstruct
from arae_core.data.batch_sampler import BatchSampler
from arae_core.runtime.parallel import Parallel
from tests.arae_core.reference import Reference, rows_of
from tests.arae_core.small import IMAGE, TEXT, assert_same, new_state, settings_of, spec_of, store_of, weights

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text wgan-gp": ("text", {}),
    "text wgan-gp, all tricks": (
        "text",
        {
            "encoder.word_dropout": 0.3,
            "decoder.word_dropout": 0.4,
            "encoder.hidden": (7, 7),
            "encoder.adversarial_weight": 0.3,
            "decoder.hidden": (5, 5),
            "code.noise": 0.7,
            "critic.penalty": 10.0,
            "gradient_clip": 0.05,
            "generator.average": 0.9,
            "generator.output": "tanh",
        },
    ),
    "text wgan-clip": ("text", {"critic.objective": "wgan-clip", "critic.normalization": "none", "gradient_clip": 0.0}),
    "text wgan-clip, SGD, unbounded": (
        "text",
        {
            "critic.objective": "wgan-clip",
            "critic.clip": 0.05,
            "code.kind": "euclidean",
            "generator.output": "linear",
            "encoder.optimizer": "sgd",
            "decoder.optimizer": "sgd",
            "encoder.learning_rate": 0.5,
            "decoder.learning_rate": 0.5,
            "critic.optimizer": "sgd",
            "generator.optimizer": "sgd",
            "generator.normalization": "none",
        },
    ),
    "text, weights decay, cooling down": (
        "text",
        {
            "encoder.weight_decay": 3.0,
            "decoder.weight_decay": 5.0,
            "critic.weight_decay": 7.0,
            "generator.weight_decay": 2.0,
            "generator.optimizer": "sgd",
            "cooldown": 0.9,
        },
    ),
    "text plain": ("text", {"critic.objective": "none", "encoder.word_dropout": 0.2}),
    "text AAE": ("text", {"prior.kind": "gaussian"}),
    "text AAE, unbounded": ("text", {"prior.kind": "gaussian", "code.kind": "euclidean"}),
    "text, encoder each critic step": ("text", {"encoder.adversarial_each_critic_step": True}),
    "text, summed updates": ("text", {"encoder.updates": "summed", "encoder.word_dropout": 0.3}),
    "text, summed over critic steps": (
        "text",
        {"encoder.updates": "summed", "encoder.adversarial_each_critic_step": True, "encoder.adversarial_weight": 0.3},
    ),
    "two classes, summed updates": ("labelled", {"encoder.updates": "summed", "encoder.attribute_weight": 0.4}),
    "two classes": ("labelled", {"encoder.attribute_weight": 0.7, "encoder.word_dropout": 0.3}),
    "two classes, separate decoders": ("labelled", {"decoder.conditioning": "separate", "decoder.word_dropout": 0.3}),
    "three classes": ("three", {"classifier.normalization": "layer", "classifier.optimizer": "sgd"}),
    "three classes, separate decoders": ("three", {"decoder.conditioning": "separate", "critic.objective": "none"}),
    "two classes, not hidden": ("labelled", {"encoder.attribute_weight": 0.0}),
    "image wgan-gp": ("image", {}),
    "image wgan-clip, released form": (
        "image",
        {
            "critic.objective": "wgan-clip",
            "critic.normalization": "none",
            "encoder.normalization": "none",
            "decoder.normalization": "layer",
            "decoder.logits_per_pixel": 2,
            "encoder.adversarial_each_critic_step": True,
            "encoder.adversarial_weight": 0.2,
            "gradient_clip": 0.0,
            "code.noise": 0.4,
        },
    ),
    "image plain": ("image", {"critic.objective": "none"}),
    "image AAE": ("image", {"prior.kind": "gaussian"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_iterations_equal_the_reference(variant: str) -> None:
    kind, changes = VARIANTS[variant]
    settings, store = settings_of(kind, {"batch_size": 5, "critic.steps": 2} | changes), store_of(kind)
    feed = BatchSampler(store, spec_of(kind), settings.batch_size, settings.seed)
    state = new_state(settings, kind)
    before = weights(state)
    state.end = 4
    reference = Reference(settings, before, feed, state.end)
    for step in range(3):
        scalars = iteration(state, feed, Parallel())
        reference.iteration(step)
        assert_same(weights(state), reference.p, 1e-9)
    after, trained = weights(state), {name for name, _ in state.modules.named_parameters()}
    # a linear map's bias before the critic's score shifts real and fake alike: its gradient is zero
    still = {name for name in trained if torch.equal(before[name], after[name])}
    assert all(name.startswith("critic.layers.") and name.endswith("bias") for name in still), still
    for name, value in reference.scalars.items():
        assert float(scalars[name]) == pytest.approx(value, abs=1e-9), name


def test_the_noise_shrinks_by_its_factor_every_100_iterations() -> None:
    settings = settings_of("text", {"code.noise": 0.5, "code.noise_decay": 0.9})
    feed = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed)
    losses = {}
    for step in (99, 100, 200):
        state = new_state(settings)
        state.step = step
        assert state.noise == pytest.approx(0.5 * 0.9 ** (step // 100))
        expected = Reference(settings, weights(state), feed)
        expected.reconstruct(rows_of(feed.reconstruct(0)[0]), 0.5 * 0.9 ** (step // 100))
        losses[step] = float(reconstruct(state, Parallel(), *feed.reconstruct(0), state.noise)["reconstruction_loss"])
        assert losses[step] == pytest.approx(expected.scalars["reconstruction_loss"], abs=1e-12)
    assert len(set(losses.values())) == 3


def test_clipped_critic_stays_in_its_box() -> None:
    settings = settings_of("text", {"critic.objective": "wgan-clip", "critic.clip": 0.013})
    feed, state = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed), new_state(settings)
    iteration(state, feed, Parallel())
    largest = max(float(p.detach().abs().max()) for p in state.critic.parameters())
    assert largest == 0.013


@pytest.mark.parametrize("changes", [{}, {"encoder.adversarial_each_critic_step": True}, {"encoder.updates": "summed"}])
def test_lambda_1_of_zero_leaves_the_autoencoder_to_reconstruction(changes: dict[str, Any]) -> None:
    """Adam's momentum would make a whole step of a gradient of 0."""
    plain = {"code.noise": 0.0, "encoder.adversarial_weight": 0.0, **changes}
    ends = []
    for objective in ("wgan-gp", "none"):
        settings = settings_of("text", plain | {"critic.objective": objective})
        feed, state = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed), new_state(settings)
        scalars = [iteration(state, feed, Parallel()) for _ in range(3)][-1]
        assert ("distance" in scalars) == (objective == "wgan-gp") and "encoder_loss" not in scalars
        ends.append({name: value for name, value in weights(state).items() if name.split(".")[0] in state.optimizers})
    for name in (name for name in ends[1] if name.startswith(("encoder.", "decoder."))):
        assert torch.equal(ends[0][name], ends[1][name]), name


def test_the_gradients_norm_is_told_where_it_is_not_clipped() -> None:
    norms = []
    for clip in (0.0, 1e9):
        settings = settings_of("text", {"gradient_clip": clip})
        feed, state = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed), new_state(settings)
        norms.append(float(reconstruct(state, Parallel(), *feed.reconstruct(0), state.noise)["gradient_norm"]))
    assert norms[0] == norms[1] > 0.01


def test_each_step_moves_its_own_parts_only() -> None:
    settings = settings_of("text")
    feed, state = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed), new_state(settings)
    before = weights(state)
    reconstruct(state, Parallel(), *feed.reconstruct(0), state.noise)
    moved = {name.split(".")[0] for name, value in weights(state).items() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "decoder"}
    assert all(p.grad is None for p in state.modules.parameters())


def test_norms_and_variances_are_of_the_codes_encoded_and_of_those_generated() -> None:
    """Where codes are not on the unit sphere, and the two differ."""
    settings = settings_of("text", {"code.kind": "euclidean", "generator.output": "linear", "critic.steps": 1})
    feed, state = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed), new_state(settings)
    batch, before = feed.criticise(0, 1), state.draws.get_state()
    with torch.no_grad():
        codes = {"real": state.encoder.encode_mixed(batch, 1)}
        codes["fake"] = state.prior(state.normal(settings.batch_size, settings.generator.noise_size, Parallel()))
    state.draws.set_state(before)
    scalars = criticise(state, Parallel(), batch, 1)
    for whose, found in codes.items():
        assert float(scalars[f"code_norm_{whose}"]) == pytest.approx(float(found.norm(dim=1).mean()))
        assert float(scalars[f"code_variance_{whose}"]) == pytest.approx(float(found.var(0, correction=1).sum()))


def test_the_average_has_the_generators_buffers_as_they_are() -> None:
    settings = settings_of("image", {"generator.average": 0.9, "generator.normalization": "batch"})
    feed, state = BatchSampler(store_of("image"), IMAGE, settings.batch_size, settings.seed), new_state(settings)
    before = dict(state.prior.named_buffers())["layers.1.running_mean"].clone()
    iteration(state, feed, Parallel())
    own = dict(state.prior.named_buffers())
    assert not torch.equal(own["layers.1.running_mean"], before)
    assert_same(dict(state.modules["average"].named_buffers()), own)


def test_critic_and_classifier_keep_nothing_of_how_their_codes_came_about() -> None:
    """Nobody takes that gradient: of k batches at a time the encoder's whole way would lie in memory."""
    changes = {"encoder.attribute_weight": 0.7, "critic.steps": 2}
    settings = settings_of("labelled", changes)
    feed, state = (
        BatchSampler(store_of("labelled"), spec_of("labelled"), settings.batch_size, 0),
        new_state(settings, "labelled"),
    )
    kept = list[bool]()
    for part in ("critic", "classifier"):
        state.modules[part].register_forward_pre_hook(lambda _, given: kept.append(given[0].grad_fn is not None))
    criticise(state, Parallel(), feed.criticise(0, 2), 2)
    classify(state, Parallel(), feed.classify(0))
    assert len(kept) == 2 * 3 + 1 and not any(kept), "of real, generated and mixed codes, twice, and once for the class"
