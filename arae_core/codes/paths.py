"""Paths between two points. Shapes: D numbers in a point."""

import torch
from torch import Tensor


def straight_line(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Return [steps, D], evenly spaced from first[D] to second[D]. Raise ValueError for steps < 2."""
    share = _shares(first, steps)
    return (1 - share) * first + share * second


def great_circle(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Return [steps, D] on the great circle from first[D] to second[D]; lengths change evenly.

    Points in the same or in opposite directions, which no single great circle joins, are joined by a straight line.
    Raise ValueError for steps < 2.
    """
    share = _shares(first, steps)
    length = (1 - share) * first.norm() + share * second.norm()
    angle = torch.arccos((first @ second / (first.norm() * second.norm()).clamp_min(1e-12)).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return straight_line(first, second, steps)
    a, b = first / first.norm(), second / second.norm()
    arc: Tensor = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    points: Tensor = length * arc
    return points


def _shares(like: Tensor, steps: int) -> Tensor:
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    return torch.linspace(0, 1, steps, device=like.device, dtype=like.dtype)[:, None]
