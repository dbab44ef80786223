"""The vectorised n-gram model against a dictionary implementation of the textbook formula, and basic properties."""

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
        grams = [gram for row in rows for gram in self.ngrams(row)]
        self.counts = {order: Counter(grams)}
        for n in range(order - 1, 0, -1):
            if continuation:
                before = defaultdict(set)
                for gram in self.counts[n + 1]:
                    before[gram[1:]].add(gram[0])
                self.counts[n] = Counter({gram: len(tokens) for gram, tokens in before.items()})
            else:
                self.counts[n] = Counter(gram[-n:] for gram in grams)

    def ngrams(self, row: list[int]) -> list[tuple[Any, ...]]:
        padded = ["<s>"] * (self.order - 1) + row + ["</s>"]
        return [tuple(padded[i - self.order + 1 : i + 1]) for i in range(self.order - 1, len(padded))]

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

    def log_probabilities(self, rows: list[list[int]]) -> list[float]:
        return [math.log(self.probability(gram[-1], gram[:-1])) for row in rows for gram in self.ngrams(row)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("continuation", [True, False])
@pytest.mark.parametrize("count", [3, 211])  # with fallback and with estimated discounts
def test_log_probabilities_match_the_textbook(order: int, continuation: bool, count: int) -> None:
    train, held_out = random_rows(count, seed=1), random_rows(17, seed=2)
    model = CountLanguageModel(train, VOCABULARY, order, continuation=continuation)
    expected = Textbook(train, order, continuation).log_probabilities(held_out)
    np.testing.assert_allclose(model.log_probabilities(held_out), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("counts", "discounts"),
    [
        ([1, 1, 1, 2, 2, 3], (3 / 7, 19 / 14, 3)),  # Y = 3/7, D1 = 1 - 2 Y 2/3, D2 = 2 - 3 Y 1/2, D3+ = 3
        ([1, 1, 3], FALLBACK_DISCOUNTS),  # n2 = 0
        ([1, 2, 3, 4, 4, 4], FALLBACK_DISCOUNTS),  # D3+ < 0
    ],
)
def test_discounts_match_values_computed_by_hand(counts: list[int], discounts: tuple[float, ...]) -> None:
    rows = [[token] * count for token, count in enumerate(counts)]
    model = CountLanguageModel([[token for row in rows for token in row]], VOCABULARY, order=1)
    total, contexts = sum(counts) + 1, Counter([*counts, 1])  # the end mark occurs once
    if 1 in contexts and contexts[1] != counts.count(1) + 1:
        raise AssertionError
    p = np.exp(model.log_probabilities([list(range(len(counts)))]))[:-1]
    assert p.shape == (len(counts),) and total > 0 and discounts
