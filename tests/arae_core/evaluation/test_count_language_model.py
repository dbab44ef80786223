"""The vectorised n-gram model against a dictionary implementation of the textbook formula, and values by hand."""

import math
import random
from collections import Counter, defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest

from arae_core.evaluation.count_language_model import FALLBACK_DISCOUNTS, CountLanguageModel, FlatRows, flat_rows

VOCABULARY = 13


def random_rows(count: int, seed: int, longest: int = 7) -> list[list[int]]:
    """Rows in which each token depends on the previous one. Some rows are empty."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        row = [min(rng.randrange(VOCABULARY), rng.randrange(VOCABULARY)) for _ in range(rng.randrange(longest + 1))]
        rows.append([(token * 3 + 1) % VOCABULARY if rng.random() < 0.5 else token for token in row])
    return rows


class Textbook:
    """Chen & Goodman 1998 with one dictionary per order, one event at a time; tokens are ids, "<s>" and "</s>"."""

    def __init__(self, rows: list[list[int]], order: int, continuation: bool) -> None:
        self.order = order
        grams = self.ngrams(rows)
        self.counts = {order: Counter(grams)}
        for n in range(order - 1, 0, -1):
            if continuation:
                before = defaultdict(set)
                for gram in self.counts[n + 1]:
                    before[gram[1:]].add(gram[0])
                self.counts[n] = Counter({gram: len(tokens) for gram, tokens in before.items()})
            else:
                self.counts[n] = Counter(gram[-n:] for gram in grams)

    def ngrams(self, rows: list[list[int]]) -> list[tuple[Any, ...]]:
        padded = [["<s>"] * (self.order - 1) + row + ["</s>"] for row in rows]
        return [tuple(row[i : i + self.order]) for row in padded for i in range(len(row) - self.order + 1)]

    def discount(self, n: int, count: int) -> float:
        if count == 0:
            return 0.0
        n1, n2, n3, n4 = (sum(1 for c in self.counts[n].values() if c == k) for k in (1, 2, 3, 4))
        discounts = FALLBACK_DISCOUNTS
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            discounts = estimated if all(d > 0 for d in estimated) else discounts
        return discounts[min(count, 3) - 1]

    def probability(self, event: Any, context: tuple[Any, ...]) -> float:
        n = len(context) + 1
        lower = 1 / (VOCABULARY + 1) if n == 1 else self.probability(event, context[1:])
        followers = {gram[-1]: c for gram, c in self.counts[n].items() if gram[:-1] == context}
        if not followers:
            return lower
        count = followers.get(event, 0)
        discounted = sum(self.discount(n, c) for c in followers.values())
        return (count - self.discount(n, count) + discounted * lower) / sum(followers.values())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("continuation", [True, False])
@pytest.mark.parametrize("count", [3, 211])  # with fallback and with estimated discounts
def test_agrees_with_the_textbook(order: int, continuation: bool, count: int) -> None:
    train, held_out = random_rows(count, seed=1), random_rows(17, seed=2)
    logs = CountLanguageModel(train, VOCABULARY, order, continuation=continuation).log_probabilities(held_out)
    textbook = Textbook(train, order, continuation)
    expected = [math.log(textbook.probability(gram[-1], gram[:-1])) for gram in textbook.ngrams(held_out)]
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("counts", "discounts"),
    [
        ([1, 1, 2, 2, 3], (3 / 7, 19 / 14, 3)),  # Y = 3/7, D1 = 1 - 2 Y 2/3, D2 = 2 - 3 Y 1/2, D3+ = 3
        ([1, 3], FALLBACK_DISCOUNTS),  # n2 = 0
        ([2, 3, 4, 4, 4], FALLBACK_DISCOUNTS),  # D3+ < 0
    ],
)
def test_unigrams_by_hand(counts: list[int], discounts: tuple[float, ...]) -> None:
    """One sentence with these counts of its tokens; the end mark has count 1."""
    row = [token for token, count in enumerate(counts) for _ in range(count)]
    logs = CountLanguageModel([row], VOCABULARY, order=1).log_probabilities([range(len(counts))])
    counted = [*counts, 1]
    spared = sum(discounts[min(c, 3) - 1] for c in counted) / sum(counted)
    expected = [(c - discounts[min(c, 3) - 1]) / sum(counted) + spared / (VOCABULARY + 1) for c in counted]
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-12)


def test_bigrams_by_hand() -> None:
    """Trained on "0 1" alone: (<s> 0), (0 1), (1 </s>) occur once, so D1 is 1/2 everywhere.

    p(1 | 0) = (1 - 1/2)/1 + 1/2 p(1), and p(1) = (1 - 1/2)/3 + (3/2)/3 * 1/(V + 1).
    """
    unigram = 1 / 6 + 1 / 2 / (VOCABULARY + 1)
    logs = CountLanguageModel([[0, 1]], VOCABULARY, order=2).log_probabilities([[0, 1]])
    np.testing.assert_allclose(np.exp(logs), 1 / 2 + unigram / 2, rtol=1e-12)


@pytest.mark.parametrize("continuation", [True, False])
def test_probabilities_sum_to_one_in_every_context(continuation: bool) -> None:
    model = CountLanguageModel(random_rows(53, seed=3, longest=5), VOCABULARY, continuation=continuation)
    tokens = range(VOCABULARY)
    for context in [(), *product(tokens), *product(tokens, tokens)]:  # many of the pairs do not occur in training
        logs = model.log_probabilities([*((*context, token) for token in tokens), context])  # the last: the end mark
        p = np.exp(logs[len(context) :: len(context) + 2])
        assert len(p) == VOCABULARY + 1 and min(p) > 0 and p.sum() == pytest.approx(1, abs=1e-12)


def test_without_text_it_is_uniform() -> None:
    assert CountLanguageModel([], VOCABULARY).perplexity(random_rows(5, seed=4)) == pytest.approx(VOCABULARY + 1)


def test_flat_rows() -> None:
    flat = flat_rows([[1, 2, 3], [], [4], [5, 6]])
    assert (flat.ids.tolist(), flat.offsets.tolist()) == ([1, 2, 3, 4, 5, 6], [0, 3, 3, 4, 6])
    part = flat_rows(FlatRows(flat.ids.astype(np.int32), flat.offsets[1:4]))  # rows 1 and 2 of a larger store
    assert part.ids.dtype == np.int64 and (part.ids.tolist(), part.offsets.tolist()) == ([4], [0, 0, 1])
    assert flat_rows([]).offsets.tolist() == [0]


def test_invalid_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        CountLanguageModel([[1]], VOCABULARY).perplexity([])
    with pytest.raises(AssertionError):
        CountLanguageModel([[VOCABULARY]], VOCABULARY)  # the id of the end mark
    with pytest.raises(AssertionError):
        CountLanguageModel([[1]], 128_000, order=4)  # n-grams of more than 64 bits
