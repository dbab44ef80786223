"""Algorithms 1 and 2, compared with an independent reference for many settings."""

from typing import Any

import pytest
import torch

from arae_core.algorithm import classifier_step, critic_step, iteration, reconstruction_step
from arae_core.data.batch_sampler import BatchSampler
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState
from tests.arae_core.reference import Reference, rows_of, sum_of
from tests.arae_core.small import assert_same, new_state, settings_of, spec_of, store_of, weights

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
    "text plain, Gaussian prior": ("text", {"critic.objective": "none", "prior.kind": "gaussian"}),
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


def sampler_and_state(kind: str, changes: dict[str, Any]) -> tuple[BatchSampler, TrainingState]:
    settings = settings_of(kind, changes)
    data = BatchSampler(store_of(kind), spec_of(kind), settings.batch_size, settings.seed)
    return data, new_state(settings, kind)


@pytest.mark.parametrize("variant", VARIANTS)
def test_iterations_equal_the_reference(variant: str) -> None:
    kind, changes = VARIANTS[variant]
    data, state = sampler_and_state(kind, {"batch_size": 5, "critic.steps": 2} | changes)
    before = weights(state)
    state.end = 4
    reference = Reference(state.settings, before, data, state.end)
    for step in range(3):
        scalars = iteration(state, data, Parallel())
        assert not any(value.requires_grad for value in scalars.values()), "a graph would be kept until the next report"
        reference.iteration(step)
        assert_same(weights(state), reference.p, 1e-9)
    after, trained = weights(state), {name for name, _ in state.modules.named_parameters()}
    # A bias that shifts the scores of real and generated codes alike has no gradient.
    still = {name for name in trained if torch.equal(before[name], after[name])}
    assert all(name.startswith("critic.layers.") and name.endswith("bias") for name in still), still
    for name, value in reference.scalars.items():
        assert float(scalars[name]) == pytest.approx(value, abs=1e-9), name


def test_noise_decays_by_its_factor_every_100_iterations() -> None:
    losses = {}
    for step in (99, 100, 200):
        data, state = sampler_and_state("text", {"code.noise": 0.5, "code.noise_decay": 0.9})
        state.step, sigma = step, 0.5 * 0.9 ** (step // 100)
        assert state.noise == pytest.approx(sigma)
        expected = Reference(state.settings, weights(state), data)
        expected.reconstruct(rows_of(data.reconstruction_batch(0)[0]), sigma)
        scalars = reconstruction_step(state, Parallel(), *data.reconstruction_batch(0), state.noise)
        losses[step] = float(scalars["reconstruction_loss"])
        assert losses[step] == pytest.approx(expected.scalars["reconstruction_loss"], abs=1e-12)
    assert len(set(losses.values())) == 3


@pytest.mark.parametrize("changes", [{}, {"encoder.adversarial_each_critic_step": True}, {"encoder.updates": "summed"}])
def test_adversarial_weight_0_leaves_the_autoencoder_to_reconstruction(changes: dict[str, Any]) -> None:
    """Adam's momentum would take a whole step for a gradient of 0."""
    plain = {"code.noise": 0.0, "encoder.adversarial_weight": 0.0, **changes}
    ends = []
    for objective in ("wgan-gp", "none"):
        data, state = sampler_and_state("text", plain | {"critic.objective": objective})
        scalars = [iteration(state, data, Parallel()) for _ in range(3)][-1]
        assert ("distance" in scalars) == (objective == "wgan-gp") and "encoder_loss" not in scalars
        ends.append({n: value for n, value in weights(state).items() if n.startswith(("encoder.", "decoder."))})
    assert_same(ends[0], ends[1])


def test_gradient_norm_is_reported_without_clipping() -> None:
    norms = []
    for clip in (0.0, 1e9):
        data, state = sampler_and_state("text", {"gradient_clip": clip})
        norms.append(
            reconstruction_step(state, Parallel(), *data.reconstruction_batch(0), state.noise)["gradient_norm"]
        )
    assert norms[0] == norms[1] > 0.01


def test_gradient_clip_0_clips_nothing() -> None:
    """Here the gradient's norm is far above every usual bound."""
    ends = []
    for clip in (0.0, 1e9, 1.0):
        _, state = sampler_and_state("text", {"gradient_clip": clip, "encoder.optimizer": "sgd"})
        norm = state.update(("encoder",), 100 * sum_of(p.sum() for p in state.parameters(("encoder",))), Parallel())
        assert norm > 1000
        ends.append(weights(state))
    assert_same(ends[0], ends[1])
    assert not torch.equal(ends[0]["encoder.embedding.weight"], ends[2]["encoder.embedding.weight"])


def test_step_1_updates_only_the_autoencoder() -> None:
    data, state = sampler_and_state("text", {})
    before = weights(state)
    reconstruction_step(state, Parallel(), *data.reconstruction_batch(0), state.noise)
    moved = {name.split(".")[0] for name, value in weights(state).items() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "decoder"}
    assert all(p.grad is None for p in state.modules.parameters())


def test_code_statistics_are_those_of_encoded_and_generated_codes() -> None:
    data, state = sampler_and_state("text", {"code.kind": "euclidean", "generator.output": "linear", "critic.steps": 1})
    batch, before = data.critic_batches(0, 1), state.draws.get_state()
    with torch.no_grad():
        codes = {"real": state.encode_mixed(batch, 1)}
        codes["fake"] = state.prior(state.normal(8, state.prior.noise_size, Parallel()))
    state.draws.set_state(before)
    scalars = critic_step(state, Parallel(), batch, 1)
    for source, found in codes.items():
        assert float(scalars[f"code_norm_{source}"]) == pytest.approx(float(found.norm(dim=1).mean()))
        assert float(scalars[f"code_variance_{source}"]) == pytest.approx(float(found.var(0, correction=1).sum()))


def test_the_average_copies_the_generators_buffers() -> None:
    data, state = sampler_and_state("image", {"generator.average": 0.9, "generator.normalization": "batch"})
    before = weights(state)["prior.layers.1.running_mean"]
    iteration(state, data, Parallel())
    own = dict(state.modules["prior"].named_buffers())
    assert not torch.equal(own["layers.1.running_mean"], before)
    assert_same(dict(state.modules["average"].named_buffers()), own)


def test_critic_and_classifier_get_detached_codes() -> None:
    """Otherwise the encoder's graph of k batches would stay in memory."""
    data, state = sampler_and_state("labelled", {"encoder.attribute_weight": 0.7, "critic.steps": 2})
    attached = list[bool]()
    for part in ("critic", "classifier"):
        state.modules[part].register_forward_pre_hook(lambda _, given: attached.append(given[0].grad_fn is not None))
    critic_step(state, Parallel(), data.critic_batches(0, 2), 2)
    classifier_step(state, Parallel(), data.classifier_batch(0))
    assert attached == [False] * (2 * 3 + 1), (
        "real, generated and mixed codes in two critic steps, and the classifier's"
    )
