"""Words that give a class away: attribute markers (Li et al. 2018, https://arxiv.org/abs/1804.06437, section 3.1).

The code of a sentence whose markers were hidden from the encoder says little of the attribute, and the decoder takes it
from the class that it is told: what step (3b) asks of the code by an adversary, asked of what is read.

Shapes: N sentences, K classes, V entries of the vocabulary.
"""

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec

SMOOTHING = 1.0
"""Added to every count, so that rare words tell little."""


def attribute_markers(store: TokenStore, spec: TextSpec, ratio: float) -> NDArray[np.bool_]:
    """Which entries, [V], are at least `ratio` times as frequent in one class as they are in the others on average.

    Counts are smoothed, after those of every class were scaled to as many tokens. Marks never count. Raises ValueError
    for a store without labels, or a ratio that is not above 1.
    """
    if not ratio > 1:
        raise ValueError(f"ratio must be > 1, got {ratio}")
    if store.labels is None:
        raise ValueError("attribute markers are told apart by labels; these sentences have none")
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
