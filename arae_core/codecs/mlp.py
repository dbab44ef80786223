"""MLP encoder and decoder of binary images: the paper's binarized MNIST, for any height and width.

Shapes: B images, P pixels, D numbers in a code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.data.batches import ImageBatch
from arae_core.data.data_spec import ImageSpec
from arae_core.networks import mlp
from arae_core.settings import Settings


class MLP:
    """The codec: an MLP on either side."""

    @staticmethod
    def encoder(settings: Settings, spec: ImageSpec) -> "MLPEncoder":
        """Build the encoder."""
        return MLPEncoder(settings, spec)

    @staticmethod
    def decoder(settings: Settings, spec: ImageSpec) -> "MLPDecoder":
        """Build the decoder."""
        return MLPDecoder(settings, spec)


class MLPEncoder(nn.Module):
    """enc_phi: pixels as -1 and 1 through an MLP."""

    def __init__(self, settings: Settings, spec: ImageSpec) -> None:
        super().__init__()
        e = settings.encoder
        self.layers = mlp((spec.height * spec.width, *e.hidden, settings.code.size), nn.ReLU, e.normalization)

    def forward(self, batch: ImageBatch) -> Tensor:
        """Return [B, D]."""
        output: Tensor = self.layers(batch.pixels.to(next(self.parameters()).dtype) * 2 - 1)
        return output

    @torch.no_grad()
    def encode_mixed(self, batch: ImageBatch, parts: int) -> Tensor:
        """Return [B, D] without gradients, in one pass: all images have one size."""
        output: Tensor = self(batch)
        return output

    def initialize_as_released(self) -> None:
        """Keep torch's initialization, as the released code for images does."""


class MLPDecoder(nn.Module):
    """p_psi(x | c): each pixel is an independent Bernoulli variable given the code."""

    def __init__(self, settings: Settings, spec: ImageSpec) -> None:
        super().__init__()
        d = settings.decoder
        self.per_pixel = d.logits_per_pixel
        outputs = spec.height * spec.width * self.per_pixel
        self.layers = mlp((settings.code.size, *d.hidden, outputs), nn.ReLU, d.normalization)

    def forward(self, code: Tensor) -> Tensor:
        """Return the logits [B, P] of each pixel being 1. Where a pixel has two, only their difference matters."""
        logits: Tensor = self.layers(code)
        return logits if self.per_pixel == 1 else logits[:, 1::2] - logits[:, ::2]

    def nll(self, batch: ImageBatch, code: Tensor) -> Tensor:
        """-log p(x | c) in nats, summed over all pixels."""
        logits = self(code)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.binary_cross_entropy_with_logits(logits, batch.pixels.to(logits.dtype), reduction="sum")

    def score(self, batch: ImageBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Summed nats, pixels predicted right, and pixels."""
        right = ((self(code) > 0) == (batch.pixels > 0.5)).sum()
        return self.nll(batch, code), right, batch.pixels.numel()

    def initialize_as_released(self) -> None:
        """Keep torch's initialization, as the released code for images does."""
