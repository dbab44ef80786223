"""The vectorised model against dictionaries and the textbook's formula, and what any language model must do."""

import math
import random
from collections import Counter, defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest

from arae_core.evaluation.count_language_model import (
    FALLBACK_DISCOUNTS,
    CountLanguageModel,
    FlatRows,
    _discounts,
    flat_rows,
)

VOCABULARY = 13


def some_rows(count: int, seed: int, longest: int = 7) -> list[list[int]]:
    """Rows whose next token leans on the present one, a few of them empty."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        row = [min(rng.randrange(VOCABULARY), rng.randrange(VOCABULARY)) for _ in range(rng.randrange(longest + 1))]
        rows.append([(token * 3 + 1) % VOCABULARY if rng.random() < 0.5 else token for token in row])
    return rows


class Textbook:
    """Chen & Goodman 1998, one dictionary an order, one event at a time; tokens are ids, "<s>" and "</s>"."""

    def __init__(self, rows: list[list[int]], order: int, continuation: bool) -> None:
        self.order = order
        grams: list[tuple[Any, ...]] = []
        for row in rows:
            padded = ["<s>"] * (order - 1) + row + ["</s>"]
            grams += [tuple(padded[i - order + 1 : i + 1]) for i in range(order - 1, len(padded))]
        self.counts = {order: Counter(grams)}
        for n in range(order - 1, 0, -1):
            if continuation:
                before = defaultdict(set)
                for gram in self.counts[n + 1]:
                    before[gram[1:]].add(gram[0])
                self.counts[n] = Counter({gram: len(tokens) for gram, tokens in before.items()})
            else:
                self.counts[n] = Counter(gram[-n:] for gram in grams)

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
        total = sum(followers.values())
        count = followers.get(event, 0)
        spared = sum(self.discount(n, c) for c in followers.values())
        return (count - self.discount(n, count) + spared * lower) / total

    def log_probabilities(self, rows: list[list[int]]) -> list[float]:
        logs = []
        for row in rows:
            padded = ["<s>"] * (self.order - 1) + row + ["</s>"]
            for i in range(self.order - 1, len(padded)):
                logs.append(math.log(self.probability(padded[i], tuple(padded[i - self.order + 1 : i]))))
        return logs


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("continuation", [True, False])
@pytest.mark.parametrize("count", [3, 211])  # too few to estimate discounts from, and enough
def test_agrees_with_the_textbook(order: int, continuation: bool, count: int) -> None:
    train, held_out = some_rows(count, seed=1), some_rows(17, seed=2)
    model = CountLanguageModel(train, VOCABULARY, order, continuation=continuation)
    slow = Textbook(train, order, continuation)
    np.testing.assert_allclose(model.log_probabilities(held_out), slow.log_probabilities(held_out), rtol=0, atol=1e-9)


def test_discounts_worked_by_hand() -> None:
    """n1 = 3, n2 = 2, n3 = 1, n4 = 0: Y = 3/7, D1 = 1 - 2 Y 2/3, D2 = 2 - 3 Y 1/2, D3+ = 3."""
    np.testing.assert_allclose(_discounts(np.array([1, 1, 1, 2, 2, 3])), [0, 3 / 7, 19 / 14, 3])
    for too_odd in ([1, 1, 3], [1, 2, 3, 4, 4, 4]):  # no n-gram seen twice; D3+ below 0
        assert _discounts(np.array(too_odd)).tolist() == [0, *FALLBACK_DISCOUNTS]


def test_a_probability_worked_by_hand() -> None:
    """Train on "0 1" alone, as bigrams: (<s> 0), (0 1), (1 </s>), each once, so that D1 is 1/2 everywhere.

    p(1 | 0) = (1 - 1/2)/1 + 1/2 p(1), and p(1) = (1 - 1/2)/3 + (3/2)/3 * 1/(V + 1).
    """
    unigram = 1 / 6 + 1 / 2 / (VOCABULARY + 1)
    logs = CountLanguageModel([[0, 1]], VOCABULARY, order=2).log_probabilities([[0, 1]])
    np.testing.assert_allclose(np.exp(logs), 1 / 2 + unigram / 2, rtol=1e-12)


@pytest.mark.parametrize("continuation", [True, False])
def test_sums_to_one_in_every_context(continuation: bool) -> None:
    model = CountLanguageModel(some_rows(53, seed=3, longest=5), VOCABULARY, continuation=continuation)
    tokens = range(VOCABULARY)
    for context in [(), *product(tokens), *product(tokens, tokens)]:  # many of the pairs were never seen
        followed = [(*context, token) for token in tokens]
        p = [np.exp(model.log_probabilities([row])[len(context)]) for row in [*followed, context]]  # the last: end mark
        assert min(p) > 0
        assert sum(p) == pytest.approx(1, abs=1e-12)


def test_without_text_it_is_uniform() -> None:
    assert CountLanguageModel([], VOCABULARY).perplexity(some_rows(5, seed=4)) == pytest.approx(VOCABULARY + 1)


def test_uniform_text_is_as_surprising_as_the_vocabulary_is_large() -> None:
    rng = np.random.default_rng(5)
    text = FlatRows(rng.integers(0, VOCABULARY, 100_000), np.arange(0, 100_001, 100))
    model = CountLanguageModel(text, VOCABULARY, order=1)
    # 99 tokens of 100 events are uniform, the end mark comes once in a hundred.
    entropy = -(100 / 101) * math.log(100 / 101 / VOCABULARY) - (1 / 101) * math.log(1 / 101)
    assert model.perplexity(text) == pytest.approx(math.exp(entropy), rel=1e-3)


def test_more_text_is_less_surprised() -> None:
    held_out = some_rows(101, seed=6)
    models = [CountLanguageModel(some_rows(count, seed=7), VOCABULARY) for count in (5, 50, 500, 5000)]
    perplexities = [model.perplexity(held_out) for model in models]
    assert perplexities == sorted(perplexities, reverse=True)


def test_repetition_is_noticed_only_by_occurrences() -> None:
    """What `continuation` is for: one sentence said once or 500 times, and text that says other things."""
    held_out = some_rows(101, seed=8)

    def surprise(times: int, continuation: bool) -> float:
        return CountLanguageModel([[2, 3, 5]] * times, VOCABULARY, continuation=continuation).perplexity(held_out)

    assert surprise(1, False) == pytest.approx(surprise(1, True), rel=0.1)
    assert surprise(500, False) > 30 * surprise(500, True)


def test_rows_in_any_shape_are_the_same_rows() -> None:
    rows = [[1, 2, 3], [], [4], [5, 6]]
    flat = flat_rows(rows)
    assert flat.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert flat.offsets.tolist() == [0, 3, 3, 4, 6]
    part = flat_rows(FlatRows(flat.ids.astype(np.int32), flat.offsets[1:4]))  # rows 1 and 2 of a larger store
    assert part.ids.dtype == np.int64
    assert (part.ids.tolist(), part.offsets.tolist()) == ([4], [0, 0, 1])
    assert flat_rows([]).offsets.tolist() == [0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        CountLanguageModel([[1]], VOCABULARY).perplexity([])
    with pytest.raises(AssertionError):
        CountLanguageModel([[VOCABULARY]], VOCABULARY)  # would be taken for the end mark
    with pytest.raises(AssertionError):
        CountLanguageModel([[1]], 128_000, order=4)
