"""Statistics of codes by hand, edit distances against their definition, and neighbours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arae_core.data.batches import TokenStore
from arae_core.evaluation.latent import code_statistics, cosine_similarities, edit_distances, neighbours

WORDS = st.lists(st.integers(4, 7), max_size=6)


def levenshtein(a: list[int], b: list[int]) -> int:
    """Edit distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(levenshtein(a[1:], b) + 1, levenshtein(a, b[1:]) + 1, levenshtein(a[1:], b[1:]) + (a[0] != b[0]))


def test_statistics_and_similarities_by_hand() -> None:
    found = code_statistics(np.array([[3.0, 4.0], [0.0, 1.0], [-3.0, 4.0]]))
    assert found["norm"] == pytest.approx(11 / 3)
    assert found["variance"] == pytest.approx(18 / 3 + 2.0)
    same = code_statistics(np.ones((5, 3), np.float32))
    assert same["variance"] == 0 and same["norm"] == pytest.approx(3**0.5)
    others = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]])
    assert cosine_similarities(np.array([5.0, 0.0]), others) == pytest.approx([1, 0, -1, 0.5**0.5])


@given(WORDS, st.lists(WORDS, min_size=1, max_size=5))
def test_edit_distances_equal_their_definition(sentence: list[int], others: list[list[int]]) -> None:
    found = edit_distances(sentence, TokenStore.from_rows(others))
    assert found.tolist() == [levenshtein(sentence, other) for other in others]


def test_neighbours_are_near_but_not_copies() -> None:
    rng = np.random.default_rng(3)
    rows = [rng.integers(4, 9, rng.integers(1, 7)).tolist() for _ in range(211)]
    store = TokenStore.from_rows([*rows, rows[0], rows[0]])
    found = neighbours(store, 7, 13, seed=5, within=2, close=1)
    assert len(found) == 7 and len({each.row for each in found}) == 7
    apart: list[int] = []
    for each in found:
        everywhere = [levenshtein(store.row(each.row).tolist(), store.row(i).tolist()) for i in range(len(store))]
        assert len(set(each.near.tolist())) == 13 and {everywhere[i] for i in each.near} <= {1, 2}
        assert each.close.tolist() == [i for i, distance in enumerate(everywhere) if distance == 1]
        assert store.lengths[each.random].tolist() == store.lengths[each.near].tolist()
        apart += [everywhere[i] for i in each.random]
    assert min(apart) <= 2 < max(apart) and all(each.row not in each.random for each in found)
    again = neighbours(store, 7, 13, seed=5, within=2, close=1)
    for a, b in zip(found, again, strict=True):
        assert a.row == b.row and (a.near == b.near).all() and (a.random == b.random).all()
    assert neighbours(store, 5, 1000) == []


def test_the_bound_on_edits_is_inclusive() -> None:
    store = TokenStore.from_rows([[4, 5, 6], [4, 7, 8], [9, 10, 11]])
    assert [each.near.tolist() for each in neighbours(store, 3, 1, within=2)] in ([[1], [0]], [[0], [1]])
