"""Attribute markers: words that give a class away (Li et al. 2018, https://arxiv.org/abs/1804.06437, section 3.1).

When its markers are hidden from the encoder, the code of a sentence carries little of the attribute, and the decoder
has to take it from the class. Step (3b) reaches the same by an adversary on the code.

Shapes: N sentences, K classes, V entries of the vocabulary.
"""

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec

SMOOTHING = 1.0
"""Added to every count, so that rare words are weak evidence."""


def attribute_markers(store: TokenStore, spec: TextSpec, ratio: float) -> NDArray[np.bool_]:
    """Find the entries, bool[V], that are at least `ratio` times as frequent in one class as on average in the others.

    Counts are scaled to the same number of tokens in every class, then smoothed. Special tokens are never markers.
    Raise ValueError for a store without labels and for a ratio <= 1.
    """
    if not ratio > 1:
        raise ValueError(f"ratio must be > 1, got {ratio}")
    if store.labels is None:
        raise ValueError("attribute markers need sentences with labels; these have none")
    classes = len(spec.classes)
    of_token = np.repeat(store.labels, store.lengths)
    counts = np.bincount(of_token * spec.vocabulary + store.ids, minlength=classes * spec.vocabulary)
    counts = counts.reshape(classes, spec.vocabulary).astype(np.float64)
    totals = counts.sum(1, keepdims=True)
    counts *= totals.mean() / np.maximum(totals, 1)
    others = (counts.sum(0) - counts) / max(1, classes - 1)
    found: NDArray[np.bool_] = ((counts + SMOOTHING) / (others + SMOOTHING)).max(0) >= ratio
    found[[spec.pad, spec.start, spec.end, spec.unknown]] = False
    return found
