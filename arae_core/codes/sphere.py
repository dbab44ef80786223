"""Codes on the unit sphere, as the released code has them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from arae_core.codes.euclidean import Euclidean
from arae_core.codes.paths import great_circle


def to_sphere(code: Tensor) -> Tensor:
    """Scale every row of code[B, D] to length 1, in at least float32."""
    code = code if code.dtype == torch.float64 else code.float()
    return F.normalize(code, dim=1)


class Sphere(Euclidean):
    """The encoder's output, scaled to length 1. Noise leads off the sphere; noised codes are not scaled again."""

    def forward(self, output: Tensor) -> Tensor:
        """Return output[B, D], each row of length 1."""
        return to_sphere(output)

    def path(self, first: Tensor, second: Tensor, steps: int) -> Tensor:
        """A great circle, [steps, D]."""
        return great_circle(first, second, steps)
