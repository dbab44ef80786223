"""A Gaussian fitted to the codes of the training data: the paper's way to sample a plain autoencoder (section 6.1)."""

import torch
from torch import Tensor, nn

from arae_core.codes import Code
from arae_core.settings import Settings


class FittedGaussian(nn.Module):
    """N(mean, covariance) of codes: z[B, D] -> c~[B, D]. Until it is fitted, it is the standard Gaussian."""

    mean: Tensor
    factor: Tensor

    def __init__(self, settings: Settings, code: Code) -> None:
        super().__init__()
        self.noise_size = settings.code.size
        self.register_buffer("mean", torch.zeros(self.noise_size))
        self.register_buffer("factor", torch.eye(self.noise_size))

    def forward(self, noise: Tensor) -> Tensor:
        """Return c~[B, D]."""
        return self.mean + noise @ self.factor.T

    @torch.no_grad()
    def fit(self, codes: Tensor) -> None:
        """Take the mean and the covariance of codes[N, D]; the factor is the covariance's symmetric square root."""
        self.mean.copy_(codes.mean(0))
        covariance = torch.cov(codes.T.double(), correction=min(1, len(codes) - 1))
        values, vectors = torch.linalg.eigh(covariance.reshape(self.noise_size, self.noise_size))
        self.factor.copy_((vectors * values.clamp_min(0).sqrt()) @ vectors.T)
