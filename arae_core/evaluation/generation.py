"""How good sampled sentences are: fluency (forward) and coverage (reverse perplexity) together.

Reverse perplexity: Zhao et al. 2018, section 6.1. Neither half says anything alone: a model that repeats one good
sentence has a fine forward perplexity, one that copies the training set fine figures on both sides (look at `novel`).
The real text that is scored is the validation split and never the test split, because models are chosen by it. The
figures depend on how many samples there are: compare only figures taken of the same number.
"""

import math

import numpy as np
from numpy.typing import NDArray

from arae_core.evaluation.count_language_model import CountLanguageModel, FlatRows, Rows, TokenRows, flat_rows

SELECTION = {
    "text": ("generation_perplexity", "min"),
    "labelled text": ("transfer_score", "max"),
    "image": ("generation_f1", "max"),
}
"""The figure that chooses between models of some data, and whether the least or the greatest is best."""

MOST_TRAIN = 100_000
MOST_VALIDATION = 10_000
"""Sentences that the language models read, evenly spaced over the split; `novel` looks at the whole training split."""

TOLD = 0.25
"""Share of what a token of text costs, in nats under a language model, that codes have to tell."""

_CHUNK = 100_000
_MOST_CHARGED = 1000


def better(figure: str, a: float, b: float) -> bool:
    """Whether `a` is a better value than `b` of one of SELECTION's figures. NaN is worse than anything."""
    if math.isnan(a) or math.isnan(b):
        return not math.isnan(a)
    return a < b if dict(SELECTION.values())[figure] == "min" else a > b


class SentenceScorer:
    """Scores samples against a corpus of ids in [0, vocabulary_size). What depends on the corpus is made once."""

    def __init__(self, train: Rows, validation: Rows, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        train = train if isinstance(train, TokenRows) else flat_rows(train)
        self.validation = _spaced(validation, MOST_VALIDATION)
        if len(train.offsets) < 2 or len(self.validation.offsets) < 2:
            raise ValueError("scoring samples needs training and validation sentences, one of the splits has none")
        self.real = CountLanguageModel(_spaced(train, MOST_TRAIN), vocabulary_size)
        self.ordinary = self.real.perplexity(self.validation)
        self.known = np.unique(_fingerprints(train))

    def score(self, samples: Rows, nll: float | None = None) -> dict[str, float]:
        """The figures of the samples. An empty sample counts: its end mark is an event that real text hardly has there.

        nll: what a token of validation text costs the samples' model, in nats, where it has the code of the sentence.
        Without it samples are judged alone, whoever wrote them.

        forward_perplexity      of the samples under a language model of the training split (fluency)
        reverse_perplexity      of the validation split under a language model of the samples (fluency and coverage)
        generation_perplexity   sqrt(max(forward, that of the validation split) * reverse) * charge(nll): the figure
                                that chooses a model. Samples that are more probable than real text are no better for
                                it: whoever keeps to what is usual writes such, and the plain product chose models that
                                cover less
        distinct                share of the samples that differ from one another
        novel                   share of the distinct samples that the training split does not hold
        mean_length             tokens a sample, without the end mark

        Raises ValueError where there are no samples.
        """
        flat = flat_rows(samples)
        count = len(flat.offsets) - 1
        if count < 1:
            raise ValueError("samples must be >= 1 to be scored, got 0")
        forward = self.real.perplexity(flat)
        # Occurrences, not continuations: these would forgive a model that repeats itself, and choose it.
        of_samples = CountLanguageModel(flat, self.vocabulary_size, continuation=False)
        reverse = of_samples.perplexity(self.validation)
        different = np.unique(_fingerprints(flat))
        return {
            "generation_perplexity": math.sqrt(max(forward, self.ordinary) * reverse) * self.charge(nll),
            "forward_perplexity": forward,
            "reverse_perplexity": reverse,
            "distinct": len(different) / count,
            "novel": float(np.isin(different, self.known, invert=True).mean()),
            "mean_length": len(flat.ids) / count,
        }

    def charge(self, nll: float | None) -> float:
        """What samples cost whose model's codes say little: 1 where codes tell a quarter (TOLD) of a token's nats or
        more, else e to the nats that are missing, at most a thousand.

        A decoder that ignores its code is a language model: where samples are drawn, it may write better ones than any
        autoencoder, and it has no code space.
        """
        if nll is None:
            return 1.0
        missing = nll - (1 - TOLD) * math.log(self.ordinary)
        return math.exp(min(max(missing, 0.0), math.log(_MOST_CHARGED)))  # NaN stays NaN: worse than anything


def _spaced(rows: Rows, most: int) -> FlatRows:
    """At most `most` of the rows, evenly spaced: a corpus in order of source or length is still seen as a whole."""
    rows = rows if isinstance(rows, TokenRows) else flat_rows(rows)
    count = len(rows.offsets) - 1
    if count <= most:
        return flat_rows(rows)
    chosen = np.arange(most) * count // most
    starts, lengths = rows.offsets[chosen], rows.offsets[chosen + 1] - rows.offsets[chosen]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rows.ids[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)]
    return FlatRows(ids.astype(np.int64), offsets)


def _fingerprints(rows: TokenRows) -> NDArray[np.uint64]:
    """A 64-bit number a row, [N]: the sum of a hash of each (id, position). Equal rows have equal numbers; that some
    two of a million different rows have, too, has a chance of 1 in 30 million."""
    pieces = [np.zeros(0, np.uint64)]
    for first in range(0, len(rows.offsets) - 1, _CHUNK):  # in pieces: the training split may be mapped from disk
        ids, offsets = flat_rows(FlatRows(rows.ids, rows.offsets[first : first + _CHUNK + 1]))
        position = np.arange(1, len(ids) + 1) - np.repeat(offsets[:-1], np.diff(offsets))
        x = (ids + (position << 32)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's finalizer
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(x ^ (x >> np.uint64(31)))])
        pieces.append(sums[offsets[1:]] - sums[offsets[:-1]])  # wraps around, as it should
    return np.concatenate(pieces)
