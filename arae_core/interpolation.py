"""Ways between two codes. Shapes: D numbers in a code."""

import torch
from torch import Tensor


def path(first: Tensor, second: Tensor, steps: int, on_sphere: bool) -> Tensor:
    """[steps, D] from first[D] to second[D]: on the great circle, the lengths changing evenly, or straight."""
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    share = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    straight = (1 - share) * first + share * second
    if not on_sphere:
        return straight
    length = (1 - share) * first.norm() + share * second.norm()
    angle = torch.arccos((first @ second / (first.norm() * second.norm()).clamp_min(1e-12)).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:  # the same direction, or opposite ones, which no one great circle joins
        return straight
    a, b = first / first.norm(), second / second.norm()
    arc: Tensor = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    points: Tensor = length * arc
    return points
