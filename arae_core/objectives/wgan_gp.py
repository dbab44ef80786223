"""WGAN with a gradient penalty (Gulrajani et al. 2017)."""

from torch import Tensor, nn

from arae_core.losses import gradient_penalty
from arae_core.objectives.wgan import Wasserstein


class GradientPenalty(Wasserstein):
    """The critic is kept near 1-Lipschitz by a penalty on the norm of its gradient between c and c~."""

    def critic_loss(
        self, critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-mean f(c) + mean f(c~) + penalty."""
        loss, scalars = super().critic_loss(critic, real, fake, mix)
        penalty = gradient_penalty(critic, real, fake, mix)
        return loss + self.settings.penalty * penalty, scalars | {"gradient_penalty": penalty.detach()}
