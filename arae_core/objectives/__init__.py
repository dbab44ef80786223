"""Objectives: how codes of the data and codes from the prior are compared.

An objective is one file here and its entry in OBJECTIVES. Its class is built from the settings, holds no parameters,
and has the methods of `Objective`.
"""

from typing import TYPE_CHECKING, Protocol

from arae_core.variants import Room, Variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

ADVERSARY = ("critic", "encoder.adversarial_weight", "generator")
"""What an objective with a critic reads: the critic's settings, lambda_1, and the generator, which it trains."""

OBJECTIVES: Room = {
    "wgan-gp": Variant(
        "arae_core.objectives.wgan_gp:GradientPenalty",
        (*ADVERSARY, "critic.penalty"),
        {
            "critic.normalization": (
                "batch",
                "the penalty is on the gradient of each sample, and BatchNorm mixes samples",
            )
        },
    ),
    "wgan-clip": Variant("arae_core.objectives.wgan_clip:WeightClipping", (*ADVERSARY, "critic.clip")),
    "none": Variant("arae_core.objectives.none:NoObjective"),
}
"""Name, as `critic.objective` spells it -> where it stands and which settings it reads.

One that lists "encoder.adversarial_weight" takes part in step (3); one that lists "critic" has a critic and a step (2);
one that lists "generator" trains a prior that has parameters.
"""


class Objective(Protocol):
    """The comparison of codes c[B, D] of the data with codes c~[B, D] from the prior.

    Every loss is a mean over the rows that it is given, a scalar with gradients. Losses must not ask the device for a
    value (no `.item()`, no shapes that depend on values): steps are captured as CUDA graphs.
    """

    compares_batches: bool
    """False: the encoder's loss reads c alone and the generator's c~ alone, each row by itself, as WGANs do; the other
    batch is then empty, [0, D]. True: both losses read both batches, which hold the rows of all workers."""

    def critic_loss(
        self, critic: "nn.Module", real: "Tensor", fake: "Tensor", mix: "Tensor"
    ) -> "tuple[Tensor, dict[str, Tensor]]":
        """Step (2): the critic's loss for c = real and c~ = fake, and scalars to log. mix[B, 1] ~ U(0, 1)."""

    def after_critic_step(self, critic: "nn.Module") -> None:
        """Change the critic's weights after its update, for example clip them."""

    def encoder_loss(self, critic: "Callable[[Tensor], Tensor]", real: "Tensor", fake: "Tensor") -> "Tensor":
        """Step (3) for the encoder, before it is multiplied by lambda_1."""

    def generator_loss(self, critic: "Callable[[Tensor], Tensor]", real: "Tensor", fake: "Tensor") -> "Tensor":
        """Step (3) for the generator."""
