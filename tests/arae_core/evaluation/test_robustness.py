"""Word swaps, and the likelihood of sentences given codes of swapped ones."""

import numpy as np
import pytest
import torch

from arae_core.data.batches import TokenStore
from arae_core.evaluation.robustness import nats_given, swapped
from tests.arae_core.small import TEXT, new_state, sentences, text_settings

STORE = TokenStore.from_rows(sentences(97, longest=7))


def test_every_swap_exchanges_two_words_of_the_sentence_before() -> None:
    numbered = TokenStore.from_rows([list(range(4, 4 + 2 + i % 9)) for i in range(53)])
    assert swapped(numbered, 0, seed=1).rows(range(53)) == numbered.rows(range(53))
    for k in range(1, 5):
        fewer, more = swapped(numbered, k - 1, seed=1), swapped(numbered, k, seed=1)
        for i in range(len(numbered)):
            assert (fewer.row(i) != more.row(i)).sum() == 2
            assert sorted(more.row(i).tolist()) == numbered.row(i).tolist()
    assert not np.array_equal(swapped(numbered, 1, seed=1).ids, swapped(numbered, 1, seed=2).ids)


def test_positions_differ_between_equal_sentences() -> None:
    same = TokenStore.from_rows([list(range(4, 13))] * 17)
    assert len({tuple(row) for row in swapped(same, 1).rows(range(17))}) > 5


def test_one_word_stays() -> None:
    assert swapped(TokenStore.from_rows([[4], [5]]), 3).rows([0, 1]) == [[4], [5]]
    assert len(swapped(TokenStore.from_rows([]), 2)) == 0


def test_nats_equal_those_of_each_sentence_alone() -> None:
    state = new_state(text_settings())
    encoded = swapped(STORE, 2, seed=1)
    found = nats_given(state, STORE, encoded)
    assert found.sum() > 0 and not np.allclose(found, nats_given(state, STORE, STORE))
    for i in (0, 7, 31):
        alone, other = (TokenStore.from_rows([store.row(i).tolist()]) for store in (STORE, encoded))
        with torch.no_grad():
            code = state.encode(other.batch(np.array([0]), TEXT))
            nats = float(state.decoder.nll(alone.batch(np.array([0]), TEXT), code))
        assert found[i] == pytest.approx(nats, rel=1e-6)
