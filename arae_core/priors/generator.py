"""The learned prior of the paper: an MLP, trained by the objective."""

from torch import Tensor, nn

from arae_core.codes import Code
from arae_core.codes.sphere import to_sphere
from arae_core.networks import mlp
from arae_core.settings import Settings


class Generator(nn.Module):
    """g_theta: noise z[B, Z] ~ N(0, I) -> code c~[B, D]."""

    def __init__(self, settings: Settings, code: Code) -> None:
        super().__init__()
        g = settings.generator
        self.noise_size, self.output = g.noise_size, g.output
        self.layers = mlp((g.noise_size, *g.hidden, settings.code.size), nn.ReLU, g.normalization)

    def forward(self, noise: Tensor) -> Tensor:
        """Return c~[B, D], bounded as `generator.output` says."""
        code: Tensor = self.layers(noise)
        if self.output == "sphere":
            return to_sphere(code)
        return code.tanh() if self.output == "tanh" else code
