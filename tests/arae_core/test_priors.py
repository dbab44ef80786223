"""Priors: the generator, the fixed Gaussian, the fitted one; fitting one to a finished model."""

from typing import Any

import numpy as np
import pytest
import torch

from arae_core.algorithm import iteration
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TokenStore, make_batch
from arae_core.model import Model
from arae_core.priors import PRIORS
from arae_core.priors.fitted_gaussian import FittedGaussian
from arae_core.priors.fitting import fit_prior, replace_prior
from arae_core.priors.gaussian import Gaussian
from arae_core.runtime.parallel import Parallel
from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
from arae_core.training.loop import train
from arae_core.training.state import TrainingState
from tests.arae_core.small import (
    TEXT,
    assert_same,
    image_settings,
    new_state,
    store_of,
    text_settings,
    trained,
    weights,
)


def normal(rows: int, columns: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(codes: torch.Tensor) -> FittedGaussian:
    settings = text_settings({"prior.kind": "fitted-gaussian", "code.size": codes.shape[1]})
    prior = TrainingState(settings, TEXT).modules["prior"]
    assert isinstance(prior, FittedGaussian)
    prior.fit(codes)
    return prior


@pytest.mark.parametrize("output", ["linear", "tanh", "sphere"])
def test_the_generators_output_is_bounded_as_set(output: str) -> None:
    generator = new_state(text_settings({"generator.output": output})).modules["prior"]
    layers, code = generator.layers(normal(17, 5)), generator(normal(17, 5))  # type: ignore[operator]
    expected = {"linear": layers, "tanh": layers.tanh(), "sphere": layers / layers.norm(dim=1, keepdim=True)}
    assert code.shape == (17, 7)
    torch.testing.assert_close(code, expected[output])


def test_the_fixed_gaussian_is_the_noise_in_the_code_space() -> None:
    noise = normal(17, 7)
    states = [new_state(text_settings({"prior.kind": "gaussian", "code.kind": k})) for k in ("sphere", "euclidean")]
    assert all(isinstance(state.prior, Gaussian) and state.prior.noise_size == 7 for state in states)
    torch.testing.assert_close(states[0].prior(noise), noise / noise.norm(dim=1, keepdim=True))
    assert torch.equal(states[1].prior(noise), noise)
    assert "prior" not in states[0].optimizers and not list(states[0].modules["prior"].parameters())


def test_the_fitted_gaussian_has_the_mean_and_covariance_of_the_codes() -> None:
    codes = normal(97, 7) @ normal(7, 7, seed=5) + torch.arange(7)
    prior = fitted(codes)
    torch.testing.assert_close(prior.mean, codes.mean(0))
    torch.testing.assert_close(prior.factor @ prior.factor.T, torch.cov(codes.T))
    samples = prior(normal(100_000, 7, seed=13))
    torch.testing.assert_close(samples.mean(0), codes.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(samples.T), torch.cov(codes.T), atol=0.3, rtol=0.02)


@pytest.mark.parametrize("count", [2, 3])
def test_a_singular_covariance_keeps_samples_in_the_span_of_the_codes(count: int) -> None:
    codes = normal(count, 7)
    prior = fitted(codes)
    torch.testing.assert_close(prior.factor @ prior.factor.T, torch.cov(codes.T))
    _, _, directions = torch.linalg.svd(codes - codes.mean(0))
    outside = (prior(normal(11, 7)) - codes.mean(0)) @ directions[count - 1 :].T
    assert outside.abs().max() < 1e-6


def test_codes_of_one_number_can_be_fitted() -> None:
    prior = fitted(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
    assert (prior.mean.item(), prior.factor.item()) == pytest.approx((2, 2**0.5))


@pytest.mark.parametrize(
    ("objective", "prior"),
    [
        *(("none", kind) for kind in ("gaussian", "fitted-gaussian")),
        *((objective, kind) for objective in ("wgan-gp", "wgan-clip") for kind in PRIORS),
    ],
)
def test_objective_and_prior_are_chosen_independently(objective: str, prior: str) -> None:
    settings = text_settings({"critic.objective": objective, "prior.kind": prior})
    state = new_state(settings)
    data = BatchSampler(store_of("text"), TEXT, settings.batch_size, settings.seed)
    scalars = iteration(state, data, Parallel())
    assert ("generator_loss" in scalars) == (prior == "generator")
    assert ("distance" in scalars) == (objective != "none")
    assert type(state.prior) is PRIORS[prior].load()


@pytest.mark.parametrize(("objective", "prior"), [("wgan-gp", "generator"), ("none", "fitted-gaussian")])
def test_auto_follows_from_the_objective(objective: str, prior: str) -> None:
    assert text_settings({"critic.objective": objective}).chosen("prior.kind")[0] == prior


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_fitted_prior_trained_against_a_critic_follows_the_codes(kind: str) -> None:
    make: Any = text_settings if kind == "text" else image_settings
    state = trained(make({"prior.kind": "fitted-gaussian"}), 5)
    codes = state.encode_mixed(make_batch(store_of(kind), np.arange(29), state.spec, state.device))
    prior = state.modules["prior"]
    assert isinstance(prior, FittedGaussian)
    torch.testing.assert_close(prior.mean, codes.mean(0))
    torch.testing.assert_close(prior.factor @ prior.factor.T, torch.cov(codes.T))


@pytest.mark.parametrize("kind", ["fitted-gaussian", "gaussian"])
def test_a_finished_model_gets_another_prior(kind: str, tmp_path: Any) -> None:
    before, store = trained(image_settings(), 5), store_of("image")
    after = replace_prior(before, store, kind)
    first, second = weights(before), weights(after)
    shared = {name for name in first if not name.startswith("prior.")}
    assert_same({n: first[n] for n in shared}, {n: second[n] for n in shared})
    assert type(after.prior) is PRIORS[kind].load() and after.step == before.step
    samples = Model(after, None).generate(5, seed=3)
    loaded, _, _ = load_checkpoint(save_checkpoint(tmp_path / "model", after))
    assert np.array_equal(Model(loaded, None).generate(5, seed=3), samples)
    if kind == "fitted-gaussian":
        codes = Model(after, None).sample_codes(5000, seed=1)
        real = Model(after, None).encode_store(store, np.arange(len(store)))
        assert np.abs(codes.mean(0) - real.mean(0)).max() < 0.05


@pytest.mark.parametrize(
    ("kind", "message"),
    [("flow", "prior.kind must be one of generator, "), ("generator", "prior.kind generator is trained by")],
)
def test_priors_that_cannot_be_fitted_are_refused(kind: str, message: str) -> None:
    state = new_state(image_settings())
    with pytest.raises(ValueError, match=message):
        replace_prior(state, store_of("image"), kind)
    with pytest.raises(ValueError, match=r"prior\.kind generator is not fitted to codes"):
        fit_prior(state, store_of("image"))


def test_one_sentence_is_enough_to_fit_a_prior_and_none_is_refused() -> None:
    state = new_state(text_settings({"critic.objective": "none", "batch_size": 1}))
    list(train(state, TokenStore.from_rows([[5, 6]]), until=1, every=1))
    codes = state.prior(normal(5, state.prior.noise_size))
    assert torch.isfinite(codes).all() and codes.std(0).max() < 1e-6
    with pytest.raises(ValueError, match="there are no examples to fit a prior to"):
        fit_prior(state, TokenStore.from_rows([]))
