"""WGAN with clipped weights (Arjovsky et al. 2017), as in the paper."""

import torch
from torch import nn

from arae_core.objectives.wgan import Wasserstein


class WeightClipping(Wasserstein):
    """The critic is kept Lipschitz by clipping each of its weights to [-eps, eps] after every update."""

    @torch.no_grad()
    def after_critic_step(self, critic: nn.Module) -> None:
        """Clip the weights in place."""
        for weight in critic.parameters():
            weight.clamp_(-self.settings.clip, self.settings.clip)
