"""Statistics of the code space: norms, variances and similarity of neighbouring codes (paper, section 6.1, figure 2).

Shapes: N codes or sentences, D dimensions of a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import TokenStore

WITHIN, CLOSE = 5, 2
"""Maximum edit distance of neighbours, and of close neighbours."""


@dataclass(frozen=True)
class Neighbourhood:
    """A sentence and the sentences that its code is compared with, as rows of one store.

    The random sentences are matched in length to the near ones. Sentences with many neighbours are short, and codes
    encode length, so random sentences of any length would make similarity in length look like similarity in content.
    """

    row: int
    near: NDArray[np.int64]
    """Neighbours of the sentence."""
    random: NDArray[np.int64]
    """For each near sentence, a random one of the same length."""
    close: NDArray[np.int64]
    """All close neighbours."""


def code_statistics(codes: NDArray[np.floating]) -> dict[str, float]:
    """Return statistics of codes[N, D].

    norm: mean Euclidean norm; variance: sum over dimensions of the population variance (trace of the covariance).
    """
    return {
        "norm": float(np.linalg.norm(codes, axis=1).mean()),
        "variance": float(codes.astype(np.float64).var(0).sum()),
    }


def edit_distances(sentence: Sequence[int], store: TokenStore) -> NDArray[np.int64]:
    """Return the word-level Levenshtein distance of `sentence` to every sentence of the store, int64[N]."""
    lengths = store.lengths
    width = int(lengths.max()) if len(store) else 0
    inside = np.arange(width) < lengths[:, None]
    words = np.full((len(store), width), -1, np.int64)
    words[inside] = store.ids
    # row[N, j]: distance between the words of `sentence` processed so far and the first j words of the other sentence
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
    """Draw up to `sentences` sentences at random, each with `each` random neighbours at most `within` edits away.

    Sentences with fewer than `each` neighbours are skipped, so the list may be shorter. The sentence itself and its
    exact copies are not neighbours.
    """
    rng = np.random.default_rng(seed)
    by_length = {length: np.flatnonzero(store.lengths == length) for length in np.unique(store.lengths).tolist()}
    found: list[Neighbourhood] = []
    for row in rng.permutation(len(store)):
        if len(found) == sentences:
            break
        distances = edit_distances(store.row(int(row)).tolist(), store)
        near = np.flatnonzero((distances > 0) & (distances <= within))
        if len(near) >= each:
            chosen = rng.choice(near, each, replace=False)
            same_length = [by_length[length] for length in store.lengths[chosen].tolist()]
            random = np.array([rng.choice(rows[rows != row]) for rows in same_length])
            found.append(Neighbourhood(int(row), chosen, random, near[distances[near] <= close]))
    return found


def cosine_similarities(code: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine similarity of code[D] with each of others[N, D], float64[N]."""
    code, others = code.astype(np.float64), others.astype(np.float64)
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(code)
    similarities: NDArray[np.float64] = others @ code / np.maximum(norms, 1e-12)
    return similarities
