"""A trigram language model made of counts: trained in a second, so that every evaluation can afford one.

Interpolated modified Kneser-Ney (Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language
Modeling", section 3). A sentence w1 .. wn is scored as the n + 1 events w1 .. wn, end mark, each after the
`order` - 1 tokens before it, with start marks before the first:

    p(w | context) = (c - D(c)) / sum c  +  (sum D / sum c) * p(w | context without its first token)

where c counts the n-gram at the highest order and the different tokens seen before it at all lower ones. The recursion
ends in the uniform distribution over the vocabulary and the end mark, so no event has probability 0.

Such continuation counts make the better model of real text, but take no notice of repetition: to the lower orders, one
sentence said 2,000 times was said once. Without them c counts occurrences at every order (interpolated absolute
discounting; Ney, Essen & Kneser 1994), and a text that repeats itself makes a model that is sure and wrong.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""For data too small or too repetitive to estimate them from (KenLM's --discount_fallback)."""

_NO_KEY = np.iinfo(np.int64).max


@runtime_checkable
class TokenRows(Protocol):
    """Sentences end to end, such as a `TokenStore`: row i is ids[offsets[i] : offsets[i + 1]], without its end mark."""

    @property
    def ids(self) -> NDArray[Any]: ...
    @property
    def offsets(self) -> NDArray[Any]: ...


class FlatRows(NamedTuple):
    ids: Integers
    offsets: Integers


Rows = TokenRows | Sequence[Sequence[int]]


def flat_rows(rows: Rows) -> FlatRows:
    """The rows as ids int64[tokens] and offsets int64[N + 1] that begin at 0."""
    if isinstance(rows, TokenRows):
        first, last = rows.offsets[0], rows.offsets[-1]
        return FlatRows(np.asarray(rows.ids[first:last], np.int64), np.asarray(rows.offsets - first, np.int64))
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=offsets[1:])
    return FlatRows(np.fromiter(chain.from_iterable(rows), np.int64, offsets[-1]), offsets)


class _Level(NamedTuple):
    """The n-grams of one order: sorted keys, each list closed by a key that nothing has, for what was never seen."""

    ngrams: Integers
    share: Floats
    """(c - D) / sum c of each n-gram; 0 for the unseen."""
    contexts: Integers
    backoff: Floats
    """sum D / sum c of each context, the weight of the next shorter one; 1 for the unseen."""


class CountLanguageModel:
    """Trained on rows of ids in [0, vocabulary_size). No rows at all give the uniform model."""

    def __init__(self, rows: Rows, vocabulary_size: int, order: int = 3, *, continuation: bool = True) -> None:
        self.end, self.start = vocabulary_size, vocabulary_size + 1
        self.order, self.base = order, vocabulary_size + 2
        assert self.base**order < _NO_KEY, "an n-gram does not fit 64 bits"
        self.levels: list[_Level] = []  # unigrams first
        seen = self._ngrams(rows)
        for n in range(order, 0, -1):
            ngrams, counts = np.unique(seen % self.base**n, return_counts=True)
            self.levels.insert(0, _level(ngrams, counts, self.base))
            if continuation:  # from here on each n-gram counts once, however often it was seen
                seen = ngrams

    def log_probabilities(self, rows: Rows) -> Floats:
        """ln p of every event, [tokens + sentences]: the rows in order, each closed by its end mark."""
        ngrams = self._ngrams(rows)
        p = np.full(len(ngrams), 1 / (self.end + 1))
        for n, level in enumerate(self.levels, start=1):
            suffixes = ngrams % self.base**n
            p *= _look_up(level.contexts, level.backoff, suffixes // self.base)
            p += _look_up(level.ngrams, level.share, suffixes)
        logs: Floats = np.log(p)
        return logs

    def perplexity(self, rows: Rows) -> float:
        """exp of the mean negative log-probability of an event, end marks included: 1 is certainty.

        Raises ValueError where there are no rows.
        """
        logs = self.log_probabilities(rows)
        if not len(logs):
            raise ValueError("perplexity needs at least one sentence, got none")
        return float(np.exp(-logs.mean()))

    def _ngrams(self, rows: Rows) -> Integers:
        """The key of each event and the `order` - 1 tokens before it, the event in the lowest digit of base `base`."""
        ids, offsets = flat_rows(rows)
        assert not len(ids) or (ids.min() >= 0 and ids.max() < self.end), "an id outside the vocabulary"
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


def _level(ngrams: Integers, counts: Integers, base: int) -> _Level:
    contexts, first = np.unique(ngrams // base, return_index=True)
    discount = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.add.reduceat(counts, first)
    backoff = np.add.reduceat(discount, first) / totals
    share = (counts - discount) / np.repeat(totals, np.diff(np.append(first, len(ngrams))))
    ngrams, contexts = np.append(ngrams, _NO_KEY), np.append(contexts, _NO_KEY)
    return _Level(ngrams, np.append(share, 0.0), contexts, np.append(backoff, 1.0))


def _discounts(counts: Integers) -> Floats:
    """[0, D1, D2, D3+], what n-grams counted once, twice and more often give away (Chen & Goodman 1998, section 3)."""
    once, twice, thrice, four = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if min(once, twice, thrice) > 0:
        y = once / (once + 2 * twice)
        discounts = (1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four / thrice)
        if min(discounts) > 0:
            return np.array((0.0, *discounts))
    return np.array((0.0, *FALLBACK_DISCOUNTS))


def _look_up(keys: Integers, values: Floats, wanted: Integers) -> Floats:
    """The values of the wanted keys, the last value for those that are not there."""
    at = np.searchsorted(keys, wanted)
    return np.where(keys[at] == wanted, values[at], values[-1])
