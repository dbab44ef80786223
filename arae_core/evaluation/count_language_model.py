"""A count-based n-gram language model that trains in about a second, cheap enough for every evaluation.

Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for
Language Modeling", section 3). A sentence w1 ... wn is scored as n + 1 events, w1 ... wn and the end mark. The context
of each event is the `order` - 1 tokens before it, padded on the left with start marks:

    p(w | context) = (c - D(c)) / sum c  +  (sum D / sum c) * p(w | context without its first token)

c is the count of the n-gram. At the highest order it is the number of occurrences; at lower orders it is the
continuation count, the number of distinct tokens that precede the n-gram. (Start marks count as tokens, so an n-gram
that begins with one has continuation count 1.) The recursion ends in the uniform distribution over the vocabulary and
the end mark, so every event has a positive probability.

Continuation counts model real text best, but they ignore repetition: at the lower orders, a sentence seen 2,000 times
counts as much as one seen once. With `continuation=False`, c is the number of occurrences at every order (interpolated
absolute discounting; Ney, Essen & Kneser 1994), and repetitive training text yields an overconfident model with a high
perplexity on varied text.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Discounts D1, D2 and D3+ for data too small or too repetitive to estimate them (KenLM's --discount_fallback)."""

_NO_KEY = np.iinfo(np.int64).max


@runtime_checkable
class TokenRows(Protocol):
    """Concatenated sentences, such as a `TokenStore`. Row i is ids[offsets[i] : offsets[i + 1]], without end mark."""

    @property
    def ids(self) -> NDArray[Any]: ...
    @property
    def offsets(self) -> NDArray[Any]: ...


class FlatRows(NamedTuple):
    """Concatenated sentences in memory: ids int64[tokens], offsets int64[N + 1] with offsets[0] == 0."""

    ids: Integers
    offsets: Integers


Rows = TokenRows | Sequence[Sequence[int]]


def flat_rows(rows: Rows) -> FlatRows:
    """Convert rows to int64 ids and offsets that start at 0."""
    if isinstance(rows, TokenRows):
        first, last = rows.offsets[0], rows.offsets[-1]
        return FlatRows(np.asarray(rows.ids[first:last], np.int64), np.asarray(rows.offsets - first, np.int64))
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=offsets[1:])
    return FlatRows(np.fromiter(chain.from_iterable(rows), np.int64, offsets[-1]), offsets)


class _Level(NamedTuple):
    """Sorted n-gram keys of one order. Each array ends with a sentinel entry used for unseen n-grams and contexts."""

    ngrams: Integers
    probability: Floats
    """Discounted relative frequency (c - D) / sum c of each n-gram; 0 if unseen."""
    contexts: Integers
    backoff: Floats
    """Back-off weight sum D / sum c of each context; 1 if unseen."""


class CountLanguageModel:
    """N-gram language model with interpolated modified Kneser-Ney smoothing.

    rows: training sentences of ids in [0, vocabulary_size). Without any rows the model is uniform.
    order: n, the length of the longest n-grams.
    continuation: use continuation counts below the highest order (Kneser-Ney) instead of occurrences.
    """

    def __init__(self, rows: Rows, vocabulary_size: int, order: int = 3, *, continuation: bool = True) -> None:
        self.end, self.start = vocabulary_size, vocabulary_size + 1
        self.order, self.base = order, vocabulary_size + 2
        assert self.base**order < _NO_KEY, "an n-gram does not fit 64 bits"
        self.levels: list[_Level] = []  # unigrams first
        seen = self._ngrams(rows)
        for n in range(order, 0, -1):
            ngrams, counts = np.unique(seen % self.base**n, return_counts=True)
            self.levels.insert(0, _make_level(ngrams, counts, self.base))
            if continuation:  # from here on, each distinct n-gram counts once
                seen = ngrams

    def log_probabilities(self, rows: Rows) -> Floats:
        """Return the natural log-probability of every event, float64[tokens + N], row by row with the end marks."""
        ngrams = self._ngrams(rows)
        p = np.full(len(ngrams), 1 / (self.end + 1))
        for n, level in enumerate(self.levels, start=1):
            suffixes = ngrams % self.base**n
            p *= _look_up(level.contexts, level.backoff, suffixes // self.base)
            p += _look_up(level.ngrams, level.probability, suffixes)
        logs: Floats = np.log(p)
        return logs

    def perplexity(self, rows: Rows) -> float:
        """Return exp of the mean negative log-probability per event, end marks included. The minimum is 1.

        Raise ValueError if there are no rows.
        """
        logs = self.log_probabilities(rows)
        if not len(logs):
            raise ValueError("perplexity needs at least one sentence, got none")
        return float(np.exp(-logs.mean()))

    def _ngrams(self, rows: Rows) -> Integers:
        """Encode each event and its context as one integer in base `base`, with the event in the lowest digit."""
        ids, offsets = flat_rows(rows)
        assert not len(ids) or (ids.min() >= 0 and ids.max() < self.end), "an id is outside the vocabulary"
        count, starts = len(offsets) - 1, self.order - 1
        row = np.repeat(np.arange(count), np.diff(offsets))
        padded = np.full(len(ids) + count * self.order, self.start)
        padded[np.arange(len(ids)) + row * self.order + starts] = ids
        padded[offsets[1:] + np.arange(count) * self.order + starts] = self.end
        events = np.flatnonzero(padded != self.start)
        keys = np.zeros(len(events), np.int64)
        for back in range(starts, -1, -1):
            keys = keys * self.base + padded[events - back]
        return keys


def _make_level(ngrams: Integers, counts: Integers, base: int) -> _Level:
    contexts, first = np.unique(ngrams // base, return_index=True)
    discount = _estimate_discounts(counts)[np.minimum(counts, 3)]
    totals = np.add.reduceat(counts, first)
    backoff = np.add.reduceat(discount, first) / totals
    probability = (counts - discount) / np.repeat(totals, np.diff(np.append(first, len(ngrams))))
    ngrams, contexts = np.append(ngrams, _NO_KEY), np.append(contexts, _NO_KEY)
    return _Level(ngrams, np.append(probability, 0.0), contexts, np.append(backoff, 1.0))


def _estimate_discounts(counts: Integers) -> Floats:
    """Return [0, D1, D2, D3+], the discounts of n-grams with count 0, 1, 2 and 3 or more.

    From the counts of counts, with Y = n1 / (n1 + 2 n2) and Dk = k - (k + 1) Y n(k+1) / nk (Chen & Goodman 1998,
    section 3). FALLBACK_DISCOUNTS if an estimate does not exist or is not positive.
    """
    once, twice, thrice, four = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if min(once, twice, thrice) > 0:
        y = once / (once + 2 * twice)
        discounts = (1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four / thrice)
        if min(discounts) > 0:
            return np.array((0.0, *discounts))
    return np.array((0.0, *FALLBACK_DISCOUNTS))


def _look_up(keys: Integers, values: Floats, wanted: Integers) -> Floats:
    """Return the value of each wanted key, or the last value where the key is missing."""
    at = np.searchsorted(keys, wanted)
    return np.where(keys[at] == wanted, values[at], values[-1])
