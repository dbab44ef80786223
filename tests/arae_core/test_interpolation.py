"""The way between two codes."""

import pytest
import torch
from arae_core.code_space import to_sphere
from arae_core.interpolation import path as way


def code(seed: int) -> torch.Tensor:
    return to_sphere(torch.randn(1, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


@pytest.mark.parametrize("steps", [2, 3, 11])
def test_great_circle_from_code_to_code_in_equal_angles(steps: int) -> None:
    first, second = code(1), code(2)
    path = way(first, second, steps, True)
    torch.testing.assert_close(path[[0, -1]], torch.stack([first, second]))
    torch.testing.assert_close(path.norm(dim=1), torch.ones(steps, dtype=torch.float64))
    angles = torch.arccos((path[1:] * path[:-1]).sum(1).clamp(-1, 1))
    torch.testing.assert_close(angles, (torch.arccos(first @ second) / (steps - 1)).expand(steps - 1))
    assert torch.linalg.matrix_rank(path) == 2, "all in the plane of the two"


def test_lengths_change_evenly_between_draws_of_noise() -> None:
    path = way(3 * code(1), 5 * code(2), 5, True)
    torch.testing.assert_close(path.norm(dim=1), torch.tensor([3, 3.5, 4, 4.5, 5], dtype=torch.float64))


def test_straight_where_the_space_is_unbounded_or_there_is_no_one_circle() -> None:
    first, second = code(1), code(2)
    middle = (first + second) / 2
    torch.testing.assert_close(way(first, second, 3, False)[1], middle)
    for end in (first, -first):
        path = way(first, end, 3, True)
        assert bool(path.isfinite().all())
        torch.testing.assert_close(path[[0, -1]], torch.stack([first, end]))
