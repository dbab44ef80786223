"""Swaps exchange words, lose none, and are the same ones for every k."""

import numpy as np
import pytest
import torch

from arae_core.data.batches import TokenStore
from arae_core.evaluation.robustness import nats_given, swapped
from tests.arae_core.small import TEXT, new_state, sentences, text_settings

STORE = TokenStore.from_rows(sentences(97, longest=7))


def test_words_stay_and_places_change() -> None:
    for k in range(5):
        after = swapped(STORE, k, seed=3)
        for i in range(len(STORE)):
            before, now = STORE.row(i), after.row(i)
            assert sorted(before.tolist()) == sorted(now.tolist())
            assert (before != now).sum() <= 2 * k
    assert swapped(STORE, 0).rows(range(len(STORE))) == STORE.rows(range(len(STORE)))


def test_a_swap_is_of_two_different_places_and_goes_on_from_the_last() -> None:
    numbered = TokenStore.from_rows([list(range(4, 4 + 2 + i % 9)) for i in range(53)])
    for k in range(1, 4):
        fewer, more = swapped(numbered, k - 1, seed=1), swapped(numbered, k, seed=1)
        for i in range(len(numbered)):
            assert (fewer.row(i) != more.row(i)).sum() == 2
    assert not np.array_equal(swapped(numbered, 1, seed=1).ids, swapped(numbered, 1, seed=2).ids)


def test_one_word_stays() -> None:
    one = TokenStore.from_rows([[4], [5]])
    assert swapped(one, 3).rows([0, 1]) == [[4], [5]]
    assert len(swapped(TokenStore.from_rows([]), 2)) == 0


def test_nats_are_the_decoders_own_whatever_the_batch() -> None:
    state = new_state(text_settings())
    read = swapped(STORE, 2, seed=1)
    found = nats_given(state, STORE, read)
    assert found.sum() > 0 and not np.allclose(found, nats_given(state, STORE, STORE))
    for i in (0, 7, 31):
        alone, other = (TokenStore.from_rows([store.row(i).tolist()]) for store in (STORE, read))
        with torch.no_grad():
            code = state.encoder(other.batch(np.array([0]), TEXT))
            nats = float(state.decoder.nll(alone.batch(np.array([0]), TEXT), code))
        assert found[i] == pytest.approx(nats, rel=1e-6)


def test_sentences_are_swapped_each_in_its_own_places() -> None:
    same = TokenStore.from_rows([list(range(4, 13))] * 17)
    assert len({tuple(row) for row in swapped(same, 1).rows(range(17))}) > 5
