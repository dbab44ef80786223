"""Each objective against its closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arae_core.losses import (
    classifier_loss,
    critic_loss,
    encoder_loss,
    generator_loss,
    gradient_penalty,
    hiding_loss,
    reconstruction_loss,
)

DIRECTION = torch.tensor([3.0, 0.0, -4.0, 12.0, 0.0], dtype=torch.float64)  # |w| = 13


def linear(code: Tensor) -> Tensor:
    return code @ DIRECTION


def codes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(count, 5, generator=draws, dtype=torch.float64) for _ in range(2))
    return real, fake, torch.rand(count, 1, generator=draws, dtype=torch.float64)


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([4.0, 0.0])
    assert critic_loss(real, fake).item() == -1.0
    assert encoder_loss(real).item() == 3.0
    assert generator_loss(fake).item() == -2.0


def test_a_critic_that_tells_real_from_fake_has_a_positive_distance() -> None:
    """Samples at +1 and -1 and f(x) = x, which is 1-Lipschitz: W1 is 2, and its estimate -critic_loss as well."""
    real, fake = torch.ones(7), -torch.ones(7)
    assert -critic_loss(real, fake).item() == 2.0
    assert encoder_loss(real) > encoder_loss(fake), "phi goes where the critic says fake"
    assert generator_loss(real) < generator_loss(fake), "theta goes where the critic says real"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 13), st.integers(0, 1000))
def test_penalty_of_a_linear_critic_is_of_its_slope_whatever_the_batch(count: int, seed: int) -> None:
    assert gradient_penalty(linear, *codes(count, seed)).item() == pytest.approx((13 - 1) ** 2, rel=1e-12)


def test_penalty_is_taken_between_real_and_fake() -> None:
    """f(x) = |x|^2 / 2 has gradient x: the penalty shows the points where it was taken."""
    real, fake, mix = codes(3, seed=7)
    points = mix * real + (1 - mix) * fake
    expected = (points.norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake, mix), expected)
    torch.testing.assert_close(
        gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake, torch.ones_like(mix)),
        (real.norm(dim=1) - 1).square().mean(),
    )


def test_penalty_trains_the_critic_and_only_the_critic() -> None:
    weight = DIRECTION.clone().requires_grad_()
    real, fake, mix = codes(3, seed=11)
    real.requires_grad_()
    gradient_penalty(lambda x: x @ weight, real, fake, mix).backward()
    assert weight.grad is not None and real.grad is None
    torch.testing.assert_close(weight.grad, 2 * (13 - 1) * DIRECTION / 13)


def test_reconstruction_loss_is_a_mean_over_tokens_not_over_ranks() -> None:
    """Ranks with 2, 3 and 11 tokens: the mean over ranks of their losses is the mean over all 16 tokens."""
    nats = [torch.arange(1.0, 1 + n, dtype=torch.float64) for n in (2, 3, 11)]
    losses = [reconstruction_loss(rank.sum(), 16, 1 / 3) for rank in nats]
    assert torch.stack(losses).mean().item() == pytest.approx(torch.cat(nats).mean().item(), rel=1e-12)
    assert reconstruction_loss(nats[2].sum(), 11, 1).item() == pytest.approx(6.0)


def test_classes_by_hand() -> None:
    """Logits log 1 and log 3 are probabilities 1/4 and 3/4."""
    logits = torch.tensor([[1.0, 3.0], [3.0, 1.0]], dtype=torch.float64).log()
    one, three = math.log(4), math.log(4 / 3)  # nats of either
    assert classifier_loss(logits, torch.tensor([1, 1])).item() == pytest.approx((three + one) / 2)
    assert hiding_loss(logits, torch.tensor([1, 1])).item() == pytest.approx((one + three) / 2)
    assert hiding_loss(logits[:1], torch.tensor([0])).item() == pytest.approx(three), "the other class is 1"


def test_hiding_among_three_classes_is_least_where_nothing_can_be_told() -> None:
    logits = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    loss = hiding_loss(logits, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(math.log(3))
    (slope,) = torch.autograd.grad(loss, logits)
    assert float(slope.abs().max()) < 1e-12
    assert hiding_loss(torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])).item() > math.log(3)
