"""Encoder and decoder of binary images: the MLPs of the binarized-MNIST experiment, for any height and width.

Shapes: B images, P pixels, D numbers in a code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.code_space import mlp, to_sphere
from arae_core.data.batches import ImageBatch
from arae_core.data.data_spec import ImageSpec
from arae_core.settings import Settings


class ImageEncoder(nn.Module):
    """enc_phi: pixels as -1 and 1 through an MLP, on the unit sphere."""

    def __init__(self, settings: Settings, spec: ImageSpec):
        super().__init__()
        e = settings.encoder
        self.unit_sphere = settings.code.unit_sphere
        pixels = spec.height * spec.width
        self.layers = mlp((pixels, *e.hidden, settings.code.size), nn.ReLU, e.normalization)

    def forward(self, batch: ImageBatch) -> Tensor:
        """code[B, D]."""
        code: Tensor = self.layers(batch.pixels.to(next(self.parameters()).dtype) * 2 - 1)
        return to_sphere(code) if self.unit_sphere else code

    @torch.no_grad()
    def encode_mixed(self, batch: ImageBatch, parts: int) -> Tensor:
        """code[B, D] without gradient, in one pass: images are all of one size."""
        code: Tensor = self(batch)
        return code


class ImageDecoder(nn.Module):
    """p_psi(x | c): every pixel an independent Bernoulli given the code."""

    def __init__(self, settings: Settings, spec: ImageSpec):
        super().__init__()
        d = settings.decoder
        self.per_pixel = d.logits_per_pixel
        outputs = spec.height * spec.width * self.per_pixel
        self.layers = mlp((settings.code.size, *d.hidden, outputs), nn.ReLU, d.normalization)

    def forward(self, code: Tensor) -> Tensor:
        """Logit [B, P] of each pixel being 1. Of two logits a pixel only the difference matters."""
        logits: Tensor = self.layers(code)
        return logits if self.per_pixel == 1 else logits[:, 1::2] - logits[:, ::2]

    def nll(self, batch: ImageBatch, code: Tensor) -> Tensor:
        """-log p(x | c) in nats, summed over all pixels."""
        logits = self(code)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.binary_cross_entropy_with_logits(logits, batch.pixels.to(logits.dtype), reduction="sum")

    def score(self, batch: ImageBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Summed nats, pixels whose most probable value is right, and pixels."""
        right = ((self(code) > 0) == (batch.pixels > 0.5)).sum()
        return self.nll(batch, code), right, batch.pixels.numel()
