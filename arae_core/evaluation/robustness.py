"""Reconstruction of sentences from codes of word-swapped sentences (paper, section 6.1, table 3).

The metric is -log p(x | c), the negative log-likelihood of the original sentence x, where c is the code of x after k
swaps of two words.

Shapes: N sentences.
"""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from arae_core.codecs import TextDecoder
from arae_core.data.batches import TextBatch, TokenStore, make_batch
from arae_core.training.state import TrainingState

SWAPS = (0, 1, 2, 3, 4)


def swapped(store: TokenStore, k: int, seed: int = 0) -> TokenStore:
    """Return a copy of the store with k random swaps of two positions applied in turn to each sentence.

    The two positions of a swap always differ. Sentences of one word are unchanged. For a given seed, the first swaps
    are the same for every k.
    """
    rows = []
    for i in range(len(store)):
        row = store.row(i).copy()
        rng = np.random.default_rng((seed, i))
        for _ in range(k if len(row) > 1 else 0):
            a, b = rng.choice(len(row), 2, replace=False)
            row[[a, b]] = row[[b, a]]
        rows.append(row)
    ids: NDArray[np.int32] = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    return TokenStore(ids, store.offsets, store.labels)


@torch.no_grad()
def nats_given(state: TrainingState, originals: TokenStore, encoded: TokenStore) -> NDArray[np.float64]:
    """Return -log p(x | c) of each original sentence x, in nats per sentence, float64[N].

    c is the code of the sentence in the same row of `encoded`. A model with classes uses p(x | c, y), with y the class
    of the original.
    """
    assert len(originals) == len(encoded) and state.settings.kind == "text"
    decoder = cast(TextDecoder, state.decoder)
    state.modules.eval()
    nats = np.zeros(len(originals))
    order = np.argsort(originals.lengths, kind="stable")
    for part in np.array_split(order, max(1, len(order) // 256)):
        code = state.encode_mixed(make_batch(encoded, part, state.spec, state.device))
        batch = make_batch(originals, part, state.spec, state.device)
        assert isinstance(batch, TextBatch)
        nats[part] = decoder.nll_each(batch, code).double().cpu().numpy()
    return nats
