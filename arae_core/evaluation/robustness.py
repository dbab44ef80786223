"""How much of a sentence a code keeps when its words are out of order (paper, section 6.1, table 3).

A sentence's words are swapped k times; the nats of the original sentence, given the code of the swapped one.

Shapes: N sentences.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from arae_core.codecs.lstm import SeparateDecoders, TextDecoder
from arae_core.data.batches import TextBatch, TokenStore, make_batch
from arae_core.training.state import TrainingState

SWAPS = (0, 1, 2, 3, 4)


def swapped(store: TokenStore, k: int, seed: int = 0) -> TokenStore:
    """Every sentence with k pairs of words exchanged, one after the other, each pair in two different places.

    Sentences of one word stay. The same seed swaps the same first pairs whatever k is.
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
def nats_given(state: TrainingState, originals: TokenStore, read: TokenStore) -> NDArray[np.float64]:
    """-log p(x | c) of each of originals[N], in nats a sentence, with c the code of what stands in its place in `read`.

    Of a model with classes p(x | c, y) with the original's own class.
    """
    assert len(originals) == len(read) and isinstance(state.decoder, TextDecoder | SeparateDecoders)
    state.modules.eval()
    nats = np.zeros(len(originals))
    order = np.argsort(originals.lengths, kind="stable")
    for part in np.array_split(order, max(1, len(order) // 256)):
        code = state.encode_mixed(make_batch(read, part, state.spec, state.device))
        batch = make_batch(originals, part, state.spec, state.device)
        assert isinstance(batch, TextBatch)
        nats[part] = state.decoder.nll_each(batch, code).double().cpu().numpy()
    return nats
