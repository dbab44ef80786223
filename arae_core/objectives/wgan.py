"""Wasserstein distance of codes and generated codes, estimated by a critic (Arjovsky et al. 2017; paper, eq. 4)."""

from collections.abc import Callable

from torch import Tensor, nn

from arae_core.losses import critic_loss, encoder_loss, generator_loss
from arae_core.settings import Settings


class Wasserstein:
    """WGAN losses. Subclasses keep the critic Lipschitz."""

    compares_batches = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.critic

    def critic_loss(
        self, critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-mean f(c) + mean f(c~).

        The two passes are separate. In a joint one, a unit that is active for all codes has two gradients that cancel
        exactly, and Adam would turn their rounding errors into whole steps.
        """
        loss = critic_loss(critic(real), critic(fake))
        return loss, {"distance": -loss.detach()}

    def after_critic_step(self, critic: nn.Module) -> None:
        """Leave the weights as they are."""

    def encoder_loss(self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """Mean f(c)."""
        return encoder_loss(critic(real))

    def generator_loss(self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """-mean f(c~)."""
        return generator_loss(critic(fake))
