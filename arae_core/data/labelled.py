"""Labelled examples of one or more sentences, such as a premise and a hypothesis, for classification.

Shapes: N examples of S sentences each, B examples in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.data.batches import TextBatch, TokenStore, load_store, make_batch
from arae_core.data.data_spec import TextSpec


@dataclass(frozen=True)
class LabelledStore:
    """Labelled examples. sentences: N * S, those of example i at i * S to i * S + S - 1. labels: int64[N]."""

    sentences: TokenStore
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.labels) or len(self.sentences) % len(self.labels):
            raise ValueError(
                f"{len(self.sentences)} sentences cannot be divided among {len(self.labels)} labelled examples"
            )

    @classmethod
    def from_rows(cls, examples: Sequence[Sequence[Sequence[int]]], labels: Sequence[int]) -> "LabelledStore":
        """Build a store from the ids of each sentence of each example."""
        sentences = TokenStore.from_rows([row for example in examples for row in example])
        return cls(sentences, np.asarray(labels, np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def per_example(self) -> int:
        """S, the number of sentences of an example."""
        return len(self.sentences) // len(self.labels)

    def batch(self, rows: NDArray[np.int64], spec: TextSpec, device: torch.device) -> tuple[TextBatch, Tensor]:
        """Return the B * S sentences of the examples at rows[B], one example after another, and the labels [B]."""
        first = rows[:, None] * self.per_example + np.arange(self.per_example)
        batch = make_batch(self.sentences, first.flatten(), spec, device)
        assert isinstance(batch, TextBatch)
        return batch, torch.from_numpy(self.labels[rows]).to(device)

    def balanced(self, count: int, seed: int) -> NDArray[np.int64]:
        """Draw `count` examples with equally many (up to one) of each class; return their sorted rows.

        With the same seed, a larger count contains a smaller one. Raise ValueError if a class has too few examples.
        """
        classes = np.unique(self.labels)
        chosen = []
        for i, y in enumerate(classes):
            wanted = count // len(classes) + (i < count % len(classes))
            members = np.flatnonzero(self.labels == y)
            if wanted > len(members):
                most = len(classes) * min(int((self.labels == each).sum()) for each in classes)
                raise ValueError(
                    f"labels must be <= {most}, equally many of each of {len(classes)} classes, got {count}"
                )
            chosen.append(members[np.random.default_rng((seed, int(y))).permutation(len(members))[:wanted]])
        return np.sort(np.concatenate(chosen))

    def of(self, rows: NDArray[np.int64]) -> "LabelledStore":
        """Return a store of the examples at rows[B]."""
        first = rows[:, None] * self.per_example + np.arange(self.per_example)
        return LabelledStore(TokenStore.from_rows(self.sentences.rows(first.flatten())), self.labels[rows])

    def drawn(self, count: int, seed: int) -> NDArray[np.int64]:
        """Draw `count` examples of any class, or all if there are fewer; return their sorted rows."""
        return np.sort(np.random.default_rng(seed).permutation(len(self))[:count])

    def save(self, folder: Path) -> None:
        """Save the arrays to a folder, without pickles."""
        self.sentences.save(folder)
        np.save(folder / "classes.npy", self.labels)


def load_labelled(folder: Path) -> LabelledStore:
    """Load a saved LabelledStore. Raise ValueError if the folder holds none."""
    sentences = load_store(folder)
    try:
        labels = np.load(folder / "classes.npy", allow_pickle=False)
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError("classes.npy is not a vector of integers")
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"{folder} does not hold labelled examples: {error}") from None
    if not isinstance(sentences, TokenStore):
        raise ValueError(f"{folder} holds images, not sentences")
    return LabelledStore(sentences, labels)
