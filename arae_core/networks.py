"""Networks that read codes: the critic, the attribute classifier, and the MLP that they are made of.

Shapes: B samples, D numbers in a code (code.size), K classes.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from arae_core.settings import Settings


def mlp(
    widths: tuple[int, ...], activation: Callable[[], nn.Module], normalization: str, *, first_normalized: bool = True
) -> nn.Sequential:
    """Linear maps widths[0] -> ... -> widths[-1], with normalization and activation after each but the last."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths[:-1])):
        layers.append(nn.Linear(inputs, outputs))
        if normalization != "none" and (first_normalized or i > 0):
            layers.append(nn.LayerNorm(outputs) if normalization == "layer" else nn.BatchNorm1d(outputs))
        layers.append(activation())
    layers.append(nn.Linear(widths[-2], widths[-1]))
    return nn.Sequential(*layers)


class Critic(nn.Module):
    """f_w: code[B, D] -> one score a sample, [B]."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        f = settings.critic
        self.layers = mlp(
            (settings.code.size, *f.hidden, 1), lambda: nn.LeakyReLU(0.2), f.normalization, first_normalized=False
        )

    def forward(self, code: Tensor) -> Tensor:
        """Return the scores [B] of code[B, D]."""
        scores: Tensor = self.layers(code)
        return scores.squeeze(1)


class Classifier(nn.Module):
    """p_u: code[B, D] -> logits[B, K] of the attribute's classes (Algorithm 2)."""

    def __init__(self, settings: Settings, classes: int) -> None:
        super().__init__()
        u = settings.classifier
        self.layers = mlp((settings.code.size, *u.hidden, classes), nn.ReLU, u.normalization, first_normalized=False)

    def forward(self, code: Tensor) -> Tensor:
        """Return the logits [B, K] of code[B, D]."""
        logits: Tensor = self.layers(code)
        return logits
