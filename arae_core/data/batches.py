"""Stores of examples, batches, and the order of examples in an epoch.

All of it is vectorized in numpy, without a Python loop over rows.

Shapes: B examples in this rank's batch, T tokens with one special token, P pixels, N examples in the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec

MEMORY_MAP_BYTES = 64 * 2**20
"""Size in bytes beyond which a stored array is memory-mapped."""
GROUPED_BATCHES = 100
"""Batches whose examples are sorted by length together. Little padding is left, and the order is still random."""


@dataclass(frozen=True)
class TextBatch:
    """A batch of sentences.

    source[B, T]: start token and words. target[B, T]: words and end token. lengths[B]: valid columns of each row.
    labels[B]: the class of each sentence; None without classes. words[U]: the unique ids in the sources of all ranks,
    in main memory; None for one rank and for several batches in one.
    """

    source: Tensor
    target: Tensor
    lengths: Tensor
    labels: Tensor | None = None
    words: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, rows: Tensor) -> "TextBatch":
        """Return the batch of rows[N] (indices in main memory), cut to the longest of these."""
        lengths, there = self.lengths[rows], to_device(rows, self.source.device)
        longest = int(lengths.max())
        labels = None if self.labels is None else self.labels[rows]
        return TextBatch(self.source[there, :longest], self.target[there, :longest], lengths, labels)


@dataclass(frozen=True)
class PaddedBatch(TextBatch):
    """A batch whose tensors are all on the device and whose width is one of a few.

    Steps on it can be captured as CUDA graphs if they read no value of it on the host, which would wait for the device,
    and if no shape depends on its values.
    """


@dataclass(frozen=True)
class ImageBatch:
    """A batch of binary images. pixels[B, P]: 0 or 1."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


Batch = TextBatch | ImageBatch


class TokenStore:
    """Token store backed by one flat array ids[tokens] and offsets[N + 1], without special tokens.

    labels[N]: the class of each sentence; None without classes.
    """

    def __init__(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64], labels: NDArray[np.int64] | None = None
    ) -> None:
        self.ids, self.offsets, self.labels = ids, offsets, labels

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], labels: Sequence[int] | None = None) -> "TokenStore":
        """Build a store from the ids of each sentence."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.fromiter((i for row in rows for i in row), np.int32, int(offsets[-1]))
        return cls(ids, offsets, None if labels is None else np.asarray(labels, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sentence, [N]."""
        return np.diff(self.offsets)

    def row(self, i: int) -> NDArray[np.int32]:
        """Return the ids of one sentence."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> list[list[int]]:
        """Return the ids of the sentences at `indices`."""
        return [self.row(int(i)).tolist() for i in indices]

    def batch(self, indices: NDArray[np.int64], spec: TextSpec) -> TextBatch:
        """Return the sentences at indices[B] as one padded batch."""
        first, lengths = self.offsets[indices], self.offsets[indices + 1] - self.offsets[indices]
        column = np.arange(int(lengths.max()) + 1)
        inside = column[:-1] < lengths[:, None]
        where = np.minimum(first[:, None] + column[:-1], max(len(self.ids) - 1, 0))
        source = np.full((len(indices), len(column)), spec.pad, np.int64)
        target = source.copy()
        source[:, 0] = spec.start
        source[:, 1:][inside] = target[:, :-1][inside] = self.ids[where[inside]]
        target[np.arange(len(indices)), lengths] = spec.end
        labels = None if self.labels is None else torch.from_numpy(self.labels[indices])
        return TextBatch(torch.from_numpy(source), torch.from_numpy(target), torch.from_numpy(lengths + 1), labels)

    def save(self, folder: Path) -> None:
        """Save the arrays to a folder, without pickles."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "ids.npy", self.ids)
        np.save(folder / "offsets.npy", self.offsets)
        if self.labels is not None:
            np.save(folder / "labels.npy", self.labels)


class ImageStore:
    """Store of binary images, pixels[N, P] of 0 and 1, with height x width = P."""

    def __init__(self, pixels: NDArray[np.uint8], height: int, width: int):
        if pixels.ndim != 2 or pixels.shape[1] != height * width:
            raise ValueError(f"pixels must be of shape (images, {height * width}), got {pixels.shape}")
        self.pixels, self.height, self.width = pixels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> ImageSpec:
        """Height and width."""
        return ImageSpec(self.height, self.width)

    def batch(self, indices: NDArray[np.int64]) -> ImageBatch:
        """Return the images at indices[B] as a batch."""
        return ImageBatch(torch.from_numpy(self.pixels[indices].astype(np.float32)))

    def save(self, folder: Path) -> None:
        """Save the arrays to a folder, without pickles."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "pixels.npy", self.pixels)
        np.save(folder / "size.npy", np.array([self.height, self.width]))


Store = TokenStore | ImageStore


def load_store(folder: Path) -> Store:
    """Load a saved store. Large arrays are memory-mapped (MEMORY_MAP_BYTES). Pickles are never read.

    Raise ValueError if the folder holds no complete store.
    """

    def load(name: str) -> NDArray[Any]:
        path = folder / name
        array = np.load(path, "r" if path.stat().st_size > MEMORY_MAP_BYTES else None, allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
            raise ValueError(f"{name} is not an array of whole numbers")
        return array

    try:
        if (folder / "pixels.npy").exists():
            height, width = load("size.npy").tolist()
            return ImageStore(load("pixels.npy"), height, width)
        labels = load("labels.npy") if (folder / "labels.npy").exists() else None
        store = TokenStore(load("ids.npy"), load("offsets.npy"), labels)
        if not (store.ids.ndim == store.offsets.ndim == 1 <= len(store.offsets)) or store.offsets[-1] != len(store.ids):
            raise ValueError("offsets.npy does not match ids.npy")
        if labels is not None and len(labels) != len(store):
            raise ValueError(f"labels.npy has {len(labels)} labels for {len(store)} sentences")
        return store
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise ValueError(f"{folder} does not hold prepared examples: {error}") from None


def drop_words(batch: TextBatch, share: float, unknown: int, uniform: Tensor) -> TextBatch:
    """Replace words of the source by the unknown token where uniform[B, >= T] < share.

    Targets and the start token stay. Padding may be replaced: it is never read.
    """
    drop = uniform[:, : batch.source.shape[1]] < share
    drop[:, 0] = False
    return replace(batch, source=batch.source.masked_fill(drop, unknown))


def words_in(batch: Batch) -> Tensor | None:
    """Return the `words` of a TextBatch; None for images."""
    return batch.words if isinstance(batch, TextBatch) else None


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` evenly spaced indices below `count`, also representative of sorted data."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def grouped_order(
    lengths: NDArray[np.int64] | None,
    examples: int,
    batch_size: int,
    seed: Sequence[int],
    labels: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the batches of one epoch, int64[batches, batch_size]: random, with examples of similar length in a batch.

    The last batch is filled from the start of the order, so every example occurs at least once. With labels, every
    batch has equally many examples of each class (up to one); some examples of the larger classes then wait for a
    later epoch. Raise ValueError for a batch larger than the data or smaller than the number of classes.
    """
    if batch_size > examples:
        raise ValueError(f"batch_size must be <= {examples}, the number of training examples, got {batch_size}")
    rng = np.random.default_rng(seed)
    batches = -(-examples // batch_size)
    parts = [(np.arange(examples), batch_size)] if labels is None else class_shares(labels, batch_size)
    columns = []
    for members, width in parts:
        order = np.resize(members[rng.permutation(len(members))], batches * width)
        if lengths is not None:
            group = np.arange(len(order)) // (GROUPED_BATCHES * width)
            order = order[np.lexsort((lengths[order], group))]
        columns.append(order.reshape(batches, width))
    return np.concatenate(columns, 1)[rng.permutation(batches)]


def class_shares(labels: NDArray[np.int64], batch_size: int) -> list[tuple[NDArray[np.int64], int]]:
    """Return, for each class, the indices of its examples and their number in a batch."""
    classes = np.unique(labels)
    if batch_size < len(classes):
        raise ValueError(f"batch_size must be >= {len(classes)}, the number of classes, got {batch_size}")
    more = batch_size % len(classes)
    return [(np.flatnonzero(labels == y), batch_size // len(classes) + (i < more)) for i, y in enumerate(classes)]


def make_batch(store: Store, indices: NDArray[np.int64], spec: DataSpec, device: torch.device) -> Batch:
    """Return the examples at indices[B] as a batch on `device`. Lengths and labels, which select rows, stay in main
    memory."""
    if isinstance(store, TokenStore):
        assert isinstance(spec, TextSpec)
        batch = store.batch(indices, spec)
        return TextBatch(to_device(batch.source, device), to_device(batch.target, device), batch.lengths, batch.labels)
    return ImageBatch(to_device(store.batch(indices).pixels, device))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on `device`, without waiting for the copy."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
