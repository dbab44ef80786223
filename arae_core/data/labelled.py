"""Labelled examples of one sentence or of several, such as a premise and a hypothesis, for classification.

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
    """`sentences` holds N * S of them, those of example i at i * S to i * S + S - 1; labels int64[N] of its class."""

    sentences: TokenStore
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.labels) or len(self.sentences) % len(self.labels):
            raise ValueError(f"{len(self.sentences)} sentences cannot be those of {len(self.labels)} labelled examples")

    @classmethod
    def from_rows(cls, examples: Sequence[Sequence[Sequence[int]]], labels: Sequence[int]) -> "LabelledStore":
        """Of the ids of every sentence of every example."""
        sentences = TokenStore.from_rows([row for example in examples for row in example])
        return cls(sentences, np.asarray(labels, np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def per_example(self) -> int:
        """S."""
        return len(self.sentences) // len(self.labels)

    def batch(self, rows: NDArray[np.int64], spec: TextSpec, device: torch.device) -> tuple[TextBatch, Tensor]:
        """The B * S sentences of the examples at rows[B], one example's after another's, and the classes [B]."""
        first = rows[:, None] * self.per_example + np.arange(self.per_example)
        batch = make_batch(self.sentences, first.flatten(), spec, device)
        assert isinstance(batch, TextBatch)
        return batch, torch.from_numpy(self.labels[rows]).to(device)

    def balanced(self, count: int, seed: int) -> NDArray[np.int64]:
        """Rows of `count` examples, of every class as many (to one, where they do not divide it), drawn at random.

        A larger count of the same seed has those of a smaller one, where they divide. Raises ValueError where a class
        has too few.
        """
        classes = np.unique(self.labels)
        chosen = []
        for i, y in enumerate(classes):
            wanted = count // len(classes) + (i < count % len(classes))
            members = np.flatnonzero(self.labels == y)
            if wanted > len(members):
                most = len(classes) * min(int((self.labels == each).sum()) for each in classes)
                raise ValueError(f"labels must be <= {most}, in equal measure of {len(classes)} classes, got {count}")
            chosen.append(members[np.random.default_rng((seed, int(y))).permutation(len(members))[:wanted]])
        return np.sort(np.concatenate(chosen))

    def of(self, rows: NDArray[np.int64]) -> "LabelledStore":
        """The examples at rows[B] alone."""
        first = rows[:, None] * self.per_example + np.arange(self.per_example)
        return LabelledStore(TokenStore.from_rows(self.sentences.rows(first.flatten())), self.labels[rows])

    def drawn(self, count: int, seed: int) -> NDArray[np.int64]:
        """Rows of `count` examples, or of all where there are fewer, drawn at random whatever their class."""
        return np.sort(np.random.default_rng(seed).permutation(len(self))[:count])

    def save(self, folder: Path) -> None:
        """Write it to a folder, without pickles."""
        self.sentences.save(folder)
        np.save(folder / "classes.npy", self.labels)


def load_labelled(folder: Path) -> LabelledStore:
    """What `LabelledStore.save` wrote. Raises ValueError where the folder holds no such thing."""
    sentences = load_store(folder)
    try:
        labels = np.load(folder / "classes.npy", allow_pickle=False)
        if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError("classes.npy is not a row of whole numbers")
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"{folder} does not hold labelled examples: {error}") from None
    if not isinstance(sentences, TokenStore):
        raise ValueError(f"{folder} holds images, not sentences")
    return LabelledStore(sentences, labels)
