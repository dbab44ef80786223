"""Quality of sampled sentences: fluency (forward perplexity) and coverage (reverse perplexity).

Reverse perplexity follows Zhao et al. 2018, section 6.1. Neither perplexity is informative alone: a model that repeats
one good sentence has a low forward perplexity, and one that copies the training set has both low (check `novel`).
The real text scored is the validation split, never the test split, because these metrics select models. All of them
depend on the number of samples, so compare only values computed from the same number.
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
"""Model selection metric for each kind of data, and its direction."""

MAX_TRAIN = 100_000
MAX_VALIDATION = 10_000
"""Maximum number of sentences that the language models read, evenly spaced over each split. `novel` uses the whole
training split."""

MIN_CODE_SHARE = 0.25
"""Share of a token's negative log-likelihood under the language model, in nats, that the code must explain."""

_CHUNK = 100_000
_MAX_PENALTY = 1000


def better(metric: str, a: float, b: float) -> bool:
    """Return True if `a` is a strictly better value than `b` of a metric in SELECTION. NaN is worse than any number."""
    if math.isnan(a) or math.isnan(b):
        return not math.isnan(a)
    return a < b if dict(SELECTION.values())[metric] == "min" else a > b


class SentenceScorer:
    """Scores sampled sentences against a corpus of ids in [0, vocabulary_size).

    Everything that depends only on the corpus is computed once. Raise ValueError if either split is empty.
    """

    def __init__(self, train: Rows, validation: Rows, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        train = train if isinstance(train, TokenRows) else flat_rows(train)
        self.validation = _thin(validation, MAX_VALIDATION)
        if len(train.offsets) < 2 or len(self.validation.offsets) < 2:
            raise ValueError("scoring samples needs training and validation sentences, got an empty split")
        self.real_model = CountLanguageModel(_thin(train, MAX_TRAIN), vocabulary_size)
        self.validation_perplexity = self.real_model.perplexity(self.validation)
        self.known = np.unique(_hash_rows(train))

    def score(self, samples: Rows, nll: float | None = None) -> dict[str, float]:
        """Return the metrics of sampled sentences.

        samples: generated sentences. Empty ones count; their end mark comes where real text almost never has one.
        nll: reconstruction loss of the model on validation text, in nats per token. If None, no penalty is applied.

        forward_perplexity      perplexity of the samples under a language model of the training split (fluency)
        reverse_perplexity      perplexity of the validation split under a language model of the samples (fluency and
                                coverage)
        generation_perplexity   sqrt(max(forward, perplexity of the validation split) * reverse) * penalty(nll), the
                                model selection metric. Clamping the forward perplexity gives no credit for samples
                                more probable than real text; the plain product selected models with less coverage
        distinct                number of distinct samples / number of samples
        novel                   share of the distinct samples that do not occur in the training split
        mean_length             tokens per sample, without the end mark

        Raise ValueError if there are no samples.
        """
        flat = flat_rows(samples)
        count = len(flat.offsets) - 1
        if count < 1:
            raise ValueError("samples must be >= 1 to be scored, got 0")
        forward = self.real_model.perplexity(flat)
        # Occurrence counts: continuation counts would forgive a model that repeats itself, and select it.
        sample_model = CountLanguageModel(flat, self.vocabulary_size, continuation=False)
        reverse = sample_model.perplexity(self.validation)
        distinct = np.unique(_hash_rows(flat))
        combined = math.sqrt(max(forward, self.validation_perplexity) * reverse)
        return {
            "generation_perplexity": combined * self.penalty(nll),
            "forward_perplexity": forward,
            "reverse_perplexity": reverse,
            "distinct": len(distinct) / count,
            "novel": float(np.isin(distinct, self.known, invert=True).mean()),
            "mean_length": len(flat.ids) / count,
        }

    def penalty(self, nll: float | None) -> float:
        """Return the factor applied to generation_perplexity for codes that carry too little information.

        With H = ln(perplexity of the validation split), the unconditional cost of a token in nats:

            penalty = exp(max(0, nll - (1 - MIN_CODE_SHARE) * H)), at most 1000

        A decoder that ignores its code is a plain language model: it may write better samples than any autoencoder, but
        it has no code space. Returns 1 for None and NaN for NaN.
        """
        if nll is None:
            return 1.0
        missing = nll - (1 - MIN_CODE_SHARE) * math.log(self.validation_perplexity)
        return math.exp(min(max(missing, 0.0), math.log(_MAX_PENALTY)))  # NaN stays NaN and so never wins


def _thin(rows: Rows, limit: int) -> FlatRows:
    """Return at most `limit` evenly spaced rows, so that a corpus sorted by source or length is covered as a whole."""
    rows = rows if isinstance(rows, TokenRows) else flat_rows(rows)
    count = len(rows.offsets) - 1
    if count <= limit:
        return flat_rows(rows)
    chosen = np.arange(limit) * count // limit
    starts, lengths = rows.offsets[chosen], rows.offsets[chosen + 1] - rows.offsets[chosen]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rows.ids[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)]
    return FlatRows(ids.astype(np.int64), offsets)


def _hash_rows(rows: TokenRows) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row, uint64[N]: the sum of a hash of every (id, position) pair.

    Equal rows have equal hashes. The probability of any collision among a million rows is about 1 in 30 million.
    """
    pieces = [np.zeros(0, np.uint64)]
    for first in range(0, len(rows.offsets) - 1, _CHUNK):  # in chunks: the training split may be memory-mapped
        ids, offsets = flat_rows(FlatRows(rows.ids, rows.offsets[first : first + _CHUNK + 1]))
        position = np.arange(1, len(ids) + 1) - np.repeat(offsets[:-1], np.diff(offsets))
        x = (ids + (position << 32)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # finalizer of splitmix64
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(x ^ (x >> np.uint64(31)))])
        pieces.append(sums[offsets[1:]] - sums[offsets[:-1]])  # wrap-around is intended
    return np.concatenate(pieces)
