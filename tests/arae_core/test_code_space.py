"""Generator, critic, and the Gaussians that stand in for a generator."""

import pytest
import torch
from arae_core.code_space import (
    Classifier,
    Critic,
    FittedGaussian,
    GaussianPrior,
    Generator,
    make_generator,
    mlp,
    to_sphere,
)
from torch import nn

from tests.arae_core.small import text_settings


def normal(rows: int, columns: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("output", ["linear", "tanh", "sphere"])
def test_generated_codes_lie_where_the_output_says(output: str) -> None:
    generator = Generator(text_settings({"generator.output": output})).double()
    layers, code = generator.layers(normal(17, 5)), generator(normal(17, 5))
    expected = {"linear": layers, "tanh": layers.tanh(), "sphere": layers / layers.norm(dim=1, keepdim=True)}
    assert code.shape == (17, 7)
    torch.testing.assert_close(code, expected[output])


def test_the_fixed_prior_is_the_noise_itself() -> None:
    noise = normal(17, 7)
    bounded = GaussianPrior(text_settings({"prior.kind": "gaussian"}))
    free = GaussianPrior(text_settings({"prior.kind": "gaussian", "code.kind": "euclidean"}))
    assert bounded.noise_size == free.noise_size == 7
    torch.testing.assert_close(bounded(noise), noise / noise.norm(dim=1, keepdim=True))
    assert torch.equal(free(noise), noise)
    assert not list(bounded.parameters())


def test_fitted_gaussian_has_the_mean_and_covariance_of_the_codes() -> None:
    prior = FittedGaussian(text_settings()).double()
    codes = normal(97, 7) @ normal(7, 7, seed=5) + torch.arange(7)
    prior.fit(codes)
    torch.testing.assert_close(prior.mean, codes.mean(0))
    torch.testing.assert_close(prior.factor @ prior.factor.T, torch.cov(codes.T))
    samples = prior(normal(100_000, 7, seed=13))
    torch.testing.assert_close(samples.mean(0), codes.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(samples.T), torch.cov(codes.T), atol=0.3, rtol=0.02)


def test_fitted_gaussian_takes_codes_that_fill_no_space() -> None:
    """Fewer codes than dimensions: the covariance is singular, the samples stay in the codes' plane."""
    prior = FittedGaussian(text_settings()).double()
    codes = normal(3, 7)
    prior.fit(codes)
    torch.testing.assert_close(prior.factor @ prior.factor.T, torch.cov(codes.T))
    _, _, directions = torch.linalg.svd(codes - codes.mean(0))
    outside = (prior(normal(11, 7)) - codes.mean(0)) @ directions[2:].T
    assert outside.abs().max() < 1e-6


def test_fitted_gaussian_takes_codes_of_one_number() -> None:
    prior = FittedGaussian(text_settings({"code.size": 1})).double()
    prior.fit(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
    assert (prior.mean.item(), prior.factor.item()) == pytest.approx((2, 2**0.5))


def test_the_critic_scores_every_sample_by_itself() -> None:
    critic = Critic(text_settings()).double()
    codes = normal(5, 7)
    scores = critic(codes)
    assert scores.shape == (5,)
    for code, score in zip(codes, scores, strict=True):
        torch.testing.assert_close(critic(code[None])[0], score)


@pytest.mark.parametrize(("normalization", "layer"), [("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d)])
def test_normalization_after_hidden_layers_only_and_not_after_the_first_of_critic_and_classifier(
    normalization: str, layer: type[nn.Module]
) -> None:
    plain = mlp((7, 11, 5, 3), nn.ReLU, normalization)
    assert [type(part) for part in plain] == [*(nn.Linear, layer, nn.ReLU) * 2, nn.Linear]
    changes = {"critic.normalization": normalization, "critic.objective": "wgan-clip"}
    critic = Critic(text_settings(changes)).layers
    assert [type(part) for part in critic] == [nn.Linear, nn.LeakyReLU, nn.Linear, layer, nn.LeakyReLU, nn.Linear]
    two_layers = {"classifier.normalization": normalization, "classifier.hidden": (13, 5)}
    classifier = Classifier(text_settings(two_layers), 3).layers
    assert [type(part) for part in classifier] == [nn.Linear, nn.ReLU, nn.Linear, layer, nn.ReLU, nn.Linear]
    assert classifier[-1].out_features == 3


def test_no_hidden_layer_is_one_linear_map() -> None:
    assert len(mlp((7, 3), nn.ReLU, "layer")) == 1


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Generator),
        ({"prior.kind": "gaussian"}, GaussianPrior),
        ({"critic.objective": "none"}, FittedGaussian),
        ({"critic.objective": "none", "prior.kind": "gaussian"}, FittedGaussian),
    ],
)
def test_the_source_of_codes_follows_from_the_settings(changes: dict[str, str], kind: type[nn.Module]) -> None:
    assert type(make_generator(text_settings(changes))) is kind


def test_the_sphere_keeps_directions_and_takes_the_origin() -> None:
    code = to_sphere(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]], dtype=torch.bfloat16))
    assert code.dtype == torch.float32
    torch.testing.assert_close(code, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("count", [2, 5, 97])
def test_a_fitted_gaussian_has_the_unbiased_covariance(count: int) -> None:
    from arae_core.code_space import FittedGaussian

    codes = torch.randn(count, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior = FittedGaussian(text_settings()).double()
    prior.fit(codes)
    torch.testing.assert_close(prior.factor @ prior.factor.T, torch.cov(codes.T))
