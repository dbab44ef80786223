"""The fixed prior of the adversarial autoencoder (Makhzani et al. 2015)."""

from torch import Tensor, nn

from arae_core.codes import Code
from arae_core.settings import Settings


class Gaussian(nn.Module):
    """z[B, D] itself, mapped to the space of the encoder's codes."""

    def __init__(self, settings: Settings, code: Code) -> None:
        super().__init__()
        self.noise_size = settings.code.size
        self.__dict__["code"] = code  # a part of the model, not of this module

    def forward(self, noise: Tensor) -> Tensor:
        """Return c~[B, D]."""
        space: Code = self.__dict__["code"]
        return space(noise)
