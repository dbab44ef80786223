"""Where examples lie and how they become batches: a flat token store, length-grouped batches, rank shards.

Everything here is numpy on whole arrays: no Python per row.

Shapes: B examples in this rank's batch, T tokens with one mark, P pixels, N examples in the store.
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
GROUPED_BATCHES = 100
"""Batches whose examples are sorted by length together: the padding left is small, the order still random."""


@dataclass(frozen=True)
class TextBatch:
    """source[B, T]: start mark and words. target[B, T]: words and end mark. lengths[B]: valid columns of each row.
    labels[B]: the class of each, where there are classes. words[U]: what the batches of all ranks have in their
    sources, each once, in main memory, where there are several ranks and the batch is of one step."""

    source: Tensor
    target: Tensor
    lengths: Tensor
    labels: Tensor | None = None
    words: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, rows: Tensor) -> "TextBatch":
        """The batch of rows[N] alone (indices, in main memory), no wider than it has to be."""
        lengths, there = self.lengths[rows], to_device(rows, self.source.device)
        longest = int(lengths.max())
        labels = None if self.labels is None else self.labels[rows]
        return TextBatch(self.source[there, :longest], self.target[there, :longest], lengths, labels)


@dataclass(frozen=True)
class PaddedBatch(TextBatch):
    """A batch that lies on the device with all it has, its width one of few: nothing of it may be asked in main memory,
    which would make the host wait, and no shape may follow from its values, so that work on it can be captured."""


@dataclass(frozen=True)
class ImageBatch:
    """pixels[B, P]: 0 or 1."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


Batch = TextBatch | ImageBatch


class TokenStore:
    """Sentences as one flat array ids[tokens] with offsets[N + 1]; no marks are stored. labels[N]: classes, if any."""

    def __init__(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64], labels: NDArray[np.int64] | None = None
    ) -> None:
        self.ids, self.offsets, self.labels = ids, offsets, labels

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], labels: Sequence[int] | None = None) -> "TokenStore":
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.fromiter((i for row in rows for i in row), np.int32, int(offsets[-1]))
        return cls(ids, offsets, None if labels is None else np.asarray(labels, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every sentence, [N]."""
        return np.diff(self.offsets)

    def row(self, i: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> list[list[int]]:
        return [self.row(int(i)).tolist() for i in indices]

    def batch(self, indices: NDArray[np.int64], spec: TextSpec) -> TextBatch:
        """The sentences at indices[B] as one padded batch."""
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
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "ids.npy", self.ids)
        np.save(folder / "offsets.npy", self.offsets)
        if self.labels is not None:
            np.save(folder / "labels.npy", self.labels)


class ImageStore:
    """Binary images as pixels[N, P] of 0 and 1, each of height x width = P."""

    def __init__(self, pixels: NDArray[np.uint8], height: int, width: int):
        if pixels.ndim != 2 or pixels.shape[1] != height * width:
            raise ValueError(f"pixels must be of shape (images, {height * width}), got {pixels.shape}")
        self.pixels, self.height, self.width = pixels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> ImageSpec:
        return ImageSpec(self.height, self.width)

    def batch(self, indices: NDArray[np.int64]) -> ImageBatch:
        """The images at indices[B]."""
        return ImageBatch(torch.from_numpy(self.pixels[indices].astype(np.float32)))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "pixels.npy", self.pixels)
        np.save(folder / "size.npy", np.array([self.height, self.width]))


Store = TokenStore | ImageStore


def load_store(folder: Path) -> Store:
    """Read what a store's `save` wrote; arrays over 64 MiB stay on disk, memory-mapped. No pickle is read.

    Raises ValueError where the folder holds no store.
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
            raise ValueError("offsets.npy is not that of ids.npy")
        if labels is not None and len(labels) != len(store):
            raise ValueError(f"labels.npy has {len(labels)} classes for {len(store)} sentences")
        return store
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise ValueError(f"{folder} does not hold prepared examples: {error}") from None


def drop_words(batch: TextBatch, share: float, unknown: int, uniform: Tensor) -> TextBatch:
    """Replace words of the source by the unknown token where uniform[B, >= T] < share. Targets stay.

    The start token stays, too. Padding may be replaced: it is never read.
    """
    drop = uniform[:, : batch.source.shape[1]] < share
    drop[:, 0] = False
    return replace(batch, source=batch.source.masked_fill(drop, unknown))


def words_in(batch: Batch) -> Tensor | None:
    """`words` of a TextBatch; None for images."""
    return batch.words if isinstance(batch, TextBatch) else None


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Rows of `count`, `most` of them or all: data in order of class or of source are still seen as a whole."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def grouped_order(
    lengths: NDArray[np.int64] | None,
    examples: int,
    batch_size: int,
    seed: Sequence[int],
    labels: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """One epoch's batches, int64[batches, batch_size]: a random order in which every batch has examples of like length.

    The last batch is filled up from the order's beginning, so every example comes at least once. With labels every
    batch has all classes in equal measure (to one example, where they do not divide it): those of the greater classes
    then wait for another epoch.
    """
    if batch_size > examples:
        raise ValueError(f"batch_size must be <= the {examples} training examples there are, got {batch_size}")
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
    """The examples of each class, and how many of them a batch has."""
    classes = np.unique(labels)
    if batch_size < len(classes):
        raise ValueError(f"batch_size must be >= the {len(classes)} classes there are, got {batch_size}")
    more = batch_size % len(classes)
    return [(np.flatnonzero(labels == y), batch_size // len(classes) + (i < more)) for i, y in enumerate(classes)]


def make_batch(store: Store, indices: NDArray[np.int64], spec: DataSpec, device: torch.device) -> Batch:
    """The examples at indices[B] as a batch on `device`; lengths and labels stay in main memory: they choose rows."""
    if isinstance(store, TokenStore):
        assert isinstance(spec, TextSpec)
        batch = store.batch(indices, spec)
        return TextBatch(to_device(batch.source, device), to_device(batch.target, device), batch.lengths, batch.labels)
    return ImageBatch(to_device(store.batch(indices).pixels, device))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`, without waiting for the copy."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
