"""Codes without bounds."""

from torch import Tensor, nn

from arae_core.codes.paths import straight_line
from arae_core.settings import Settings


class Euclidean(nn.Module):
    """The encoder's output as it is."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def forward(self, output: Tensor) -> Tensor:
        """Return output[B, D]."""
        return output

    def noised(self, code: Tensor, noise: Tensor) -> Tensor:
        """code[B, D] + noise[B, D]."""
        return code + noise

    def path(self, first: Tensor, second: Tensor, steps: int) -> Tensor:
        """A straight line, [steps, D]."""
        return straight_line(first, second, steps)

    def auxiliary_loss(self, output: Tensor, code: Tensor) -> Tensor | None:
        """None."""
        return None
