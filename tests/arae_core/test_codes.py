"""Codes: where they lie, and the paths between them."""

import pytest
import torch

from arae_core.codes import CODES, Code
from arae_core.codes.paths import great_circle
from arae_core.codes.sphere import to_sphere
from tests.arae_core.small import text_settings


def code(seed: int) -> torch.Tensor:
    return to_sphere(torch.randn(1, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


def space(kind: str) -> Code:
    found: Code = CODES[kind].load()(text_settings({"code.kind": kind}))
    return found


@pytest.mark.parametrize("steps", [2, 3, 11])
def test_the_sphere_interpolates_on_a_great_circle_in_equal_angles(steps: int) -> None:
    first, second = code(1), code(2)
    path = space("sphere").path(first, second, steps)
    torch.testing.assert_close(path[[0, -1]], torch.stack([first, second]))
    torch.testing.assert_close(path.norm(dim=1), torch.ones(steps, dtype=torch.float64))
    angles = torch.arccos((path[1:] * path[:-1]).sum(1).clamp(-1, 1))
    torch.testing.assert_close(angles, (torch.arccos(first @ second) / (steps - 1)).expand(steps - 1))
    assert torch.linalg.matrix_rank(path) == 2


def test_lengths_change_evenly_on_a_great_circle() -> None:
    path = great_circle(3 * code(1), 5 * code(2), 5)
    torch.testing.assert_close(path.norm(dim=1), torch.tensor([3, 3.5, 4, 4.5, 5], dtype=torch.float64))


def test_a_straight_line_joins_euclidean_codes_and_opposite_ones() -> None:
    first, second = code(1), code(2)
    torch.testing.assert_close(space("euclidean").path(first, second, 3)[1], (first + second) / 2)
    for end in (first, -first):
        path = space("sphere").path(first, end, 3)
        assert bool(path.isfinite().all())
        torch.testing.assert_close(path[[0, -1]], torch.stack([first, end]))


@pytest.mark.parametrize("kind", CODES)
def test_a_path_needs_two_points(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^steps must be >= 2, got 1"):
        space(kind).path(code(1), code(2), 1)


def test_the_sphere_keeps_directions_and_the_origin_in_float32() -> None:
    found = to_sphere(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]], dtype=torch.bfloat16))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))
