"""What the regulariser does to the code space (paper, section 6.1 and figure 2): norms, variances, neighbours.

Shapes: N codes or sentences, D numbers in a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import TokenStore

WITHIN, CLOSE = 5, 2
"""Edits that make two sentences neighbours, and close ones."""


@dataclass(frozen=True)
class Neighbourhood:
    """A sentence's row in its store, and the rows of others: `near` ones, `random` ones as long as those, and all that
    are `close`.

    Sentences that have many neighbours are short, and codes tell lengths: random ones of any length would make
    whatever codes know of length look like nearness.
    """

    row: int
    near: NDArray[np.int64]
    random: NDArray[np.int64]
    close: NDArray[np.int64]


def code_statistics(codes: NDArray[np.floating]) -> dict[str, float]:
    """norm: the mean length of codes[N, D]; variance: the sum over dimensions of the variance within each."""
    return {
        "norm": float(np.linalg.norm(codes, axis=1).mean()),
        "variance": float(codes.astype(np.float64).var(0).sum()),
    }


def edit_distances(sentence: Sequence[int], store: TokenStore) -> NDArray[np.int64]:
    """Levenshtein's distance, in words, of `sentence` to every sentence of the store, [N]."""
    lengths = store.lengths
    width = int(lengths.max()) if len(store) else 0
    inside = np.arange(width) < lengths[:, None]
    words = np.full((len(store), width), -1, np.int64)
    words[inside] = store.ids
    # row[N, j]: distance of the words of `sentence` so far to the first j words of the other
    row = np.broadcast_to(np.arange(width + 1), (len(store), width + 1)).copy()
    for i, word in enumerate(sentence, start=1):
        before, row = row, np.empty_like(row)
        row[:, 0] = i
        replaced, dropped = before[:, :-1] + (words != word), before[:, 1:] + 1
        for j in range(1, width + 1):
            row[:, j] = np.minimum(np.minimum(replaced[:, j - 1], dropped[:, j - 1]), row[:, j - 1] + 1)
    return row[np.arange(len(store)), lengths]


def neighbours(
    store: TokenStore, sentences: int, each: int, seed: int = 0, within: int = WITHIN, close: int = CLOSE
) -> list[Neighbourhood]:
    """Sentences drawn from the store, and for each `each` others within `within` edits.

    Only sentences that have so many are taken; fewer come back where the store has fewer of them. Of more than `each`
    neighbours some are drawn. The sentence itself and its copies are no neighbours.
    """
    rng = np.random.default_rng(seed)
    of_length = {length: np.flatnonzero(store.lengths == length) for length in np.unique(store.lengths).tolist()}
    found: list[Neighbourhood] = []
    for row in rng.permutation(len(store)):
        if len(found) == sentences:
            break
        distances = edit_distances(store.row(int(row)).tolist(), store)
        near = np.flatnonzero((distances > 0) & (distances <= within))
        if len(near) >= each:
            chosen = rng.choice(near, each, replace=False)
            as_long = [of_length[length] for length in store.lengths[chosen].tolist()]
            random = np.array([rng.choice(rows[rows != row]) for rows in as_long])
            found.append(Neighbourhood(int(row), chosen, random, near[distances[near] <= close]))
    return found


def cosine_similarities(code: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of code[D] with each of others[N, D]: [N]."""
    code, others = code.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(code)
    similarities: NDArray[np.float64] = others @ code / np.maximum(lengths, 1e-12)
    return similarities
