"""What lives between encoder and decoder: the generator, Gaussians in its place, the critic, the attribute classifier.

Shapes: B samples, D numbers in a code (code.size), Z numbers of noise (generator.noise_size), K classes.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.settings import Settings


def to_sphere(code: Tensor) -> Tensor:
    """code[B, D], every row scaled to length 1, in at least float32."""
    code = code if code.dtype == torch.float64 else code.float()
    return F.normalize(code, dim=1)


def mlp(
    widths: tuple[int, ...], activation: Callable[[], nn.Module], normalization: str, *, first_normalized: bool = True
) -> nn.Sequential:
    """Linear maps widths[0] -> ... -> widths[-1]; normalization and activation after each but the last."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths[:-1])):
        layers.append(nn.Linear(inputs, outputs))
        if normalization != "none" and (first_normalized or i > 0):
            layers.append(nn.LayerNorm(outputs) if normalization == "layer" else nn.BatchNorm1d(outputs))
        layers.append(activation())
    layers.append(nn.Linear(widths[-2], widths[-1]))
    return nn.Sequential(*layers)


class Generator(nn.Module):
    """g_theta: noise z[B, Z] ~ N(0, I) -> code c~[B, D]."""

    def __init__(self, settings: Settings):
        super().__init__()
        g = settings.generator
        self.noise_size, self.output = g.noise_size, g.output
        self.layers = mlp((g.noise_size, *g.hidden, settings.code.size), nn.ReLU, g.normalization)

    def forward(self, noise: Tensor) -> Tensor:
        code: Tensor = self.layers(noise)
        if self.output == "sphere":
            return to_sphere(code)
        return code.tanh() if self.output == "tanh" else code


class GaussianPrior(nn.Module):
    """The AAE's prior: z[B, D] itself, on the unit sphere where the encoder's codes are."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.noise_size, self.unit_sphere = settings.code.size, settings.code.unit_sphere

    def forward(self, noise: Tensor) -> Tensor:
        return to_sphere(noise) if self.unit_sphere else noise


class FittedGaussian(nn.Module):
    """How a plain autoencoder is sampled (paper, section 6.1): a Gaussian fitted to its codes, z[B, D] -> c~[B, D]."""

    mean: Tensor
    factor: Tensor

    def __init__(self, settings: Settings):
        super().__init__()
        self.noise_size = settings.code.size
        self.register_buffer("mean", torch.zeros(self.noise_size))
        self.register_buffer("factor", torch.eye(self.noise_size))

    def forward(self, noise: Tensor) -> Tensor:
        return self.mean + noise @ self.factor.T

    @torch.no_grad()
    def fit(self, codes: Tensor) -> None:
        """Take mean and covariance of codes[N, D]; the factor is the covariance's symmetric square root."""
        self.mean.copy_(codes.mean(0))
        spread = torch.cov(codes.T.double(), correction=min(1, len(codes) - 1))
        values, vectors = torch.linalg.eigh(spread.reshape(self.noise_size, self.noise_size))
        self.factor.copy_((vectors * values.clamp_min(0).sqrt()) @ vectors.T)


class Critic(nn.Module):
    """f_w: code[B, D] -> one score a sample [B]."""

    def __init__(self, settings: Settings):
        super().__init__()
        f = settings.critic
        self.layers = mlp(
            (settings.code.size, *f.hidden, 1), lambda: nn.LeakyReLU(0.2), f.normalization, first_normalized=False
        )

    def forward(self, code: Tensor) -> Tensor:
        scores: Tensor = self.layers(code)
        return scores.squeeze(1)


class Classifier(nn.Module):
    """p_u: code[B, D] -> logits[B, K] of the classes (Algorithm 2)."""

    def __init__(self, settings: Settings, classes: int):
        super().__init__()
        u = settings.classifier
        self.layers = mlp((settings.code.size, *u.hidden, classes), nn.ReLU, u.normalization, first_normalized=False)

    def forward(self, code: Tensor) -> Tensor:
        logits: Tensor = self.layers(code)
        return logits


def make_generator(settings: Settings) -> Generator | GaussianPrior | FittedGaussian:
    """The source of codes that these settings ask for."""
    if not settings.adversarial:
        return FittedGaussian(settings)
    return Generator(settings) if settings.generator.kind == "mlp" else GaussianPrior(settings)
