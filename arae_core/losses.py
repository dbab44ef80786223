"""The objectives as pure functions of tensors. Shapes: B samples of this rank, D numbers in a code, K classes.

Every loss but one is a mean over this rank's samples; `Parallel.weighted` turns it into this rank's part of the mean
over the whole batch. The reconstruction loss divides by the number of tokens of the whole batch, because ranks have
sentences of different lengths.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def reconstruction_loss(nll: Tensor, targets: float | Tensor, share: float) -> Tensor:
    """Step (1): -1/n sum log p(x | c), n = `targets` tokens or pixels in the whole batch of all ranks.

    nll: scalar, nats summed over this rank's targets. share: this rank's share of the batch. The mean of the results
    over ranks, weighted by their shares, is the loss of the batch.
    """
    return nll * (1 / (share * targets))


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Step (2): -mean f(c) + mean f(c~), from scores real[B] and fake[B]. Its negative estimates W1(c, c~) (eq. 4)."""
    return fake.mean() - real.mean()


def encoder_loss(real: Tensor) -> Tensor:
    """Step (3) for phi: mean f(c), from scores real[B]; times lambda_1."""
    return real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Step (3) for theta: -mean f(c~), from scores fake[B]."""
    return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mean (|grad f(x)|_2 - 1)^2 at x = mix c + (1 - mix) c~ (Gulrajani et al. 2017, eq. 3).

    real[B, D], fake[B, D], mix[B, 1] in [0, 1]. One gradient a sample: the critic must not mix samples.
    """
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norms: Tensor = gradient.norm(2, dim=1)
    return (norms - 1).square().mean()


def classifier_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Step (2b) for u: -mean log p_u(y | c), from logits[B, K] and labels[B]."""
    return F.cross_entropy(logits, labels)


def hiding_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Step (3b) for phi, from logits[B, K] and labels[B]; times lambda_2.

    Two classes: -mean log p_u(1 - y | c), as published. More: the cross-entropy to the uniform distribution over the
    classes, -mean 1/K sum_y' log p_u(y' | c), which is smallest when u can tell nothing.
    """
    if logits.shape[1] == 2:
        return F.cross_entropy(logits, 1 - labels)
    return -logits.log_softmax(1).mean()
