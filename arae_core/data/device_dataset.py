"""Examples on the device, in batches of few shapes.

A captured step is replayed on tensors of the shapes that it was captured with, and the host must not read values from
the device. So sentences are padded to one of a few widths, which is chosen in main memory, and all tensors of a batch
are on the device. An iteration copies only the indices of its batches, a few hundred bytes.

Shapes: B examples in a batch, N in the store, T tokens with one special token, P pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.data.batches import ImageBatch, ImageStore, PaddedBatch, Store, TokenStore, to_device
from arae_core.data.data_spec import DataSpec, TextSpec

WIDTHS = 8
"""Largest number of different widths of batches."""
LARGEST_SHARE = 0.25
"""Share of the device's free memory that examples may take. Larger data stay in main memory, and each batch is copied
from pinned memory while the device still works on the previous one."""
ROWS_AT_ONCE = 65_536
"""Sentences that are copied to the device at a time."""


class PaddedSentences:
    """The sentences of a store as PaddedBatches, wide enough for `longest` words and one special token."""

    def __init__(self, store: TokenStore, spec: TextSpec, longest: int, device: torch.device):
        self.store, self.spec, self.device = store, spec, device
        self.lengths: NDArray[np.int64] = store.lengths + 1
        self.step = -(-(longest + 1) // WIDTHS)
        self.widest = int(max(longest + 1, self.lengths.max(initial=1)))
        self.rows = self._rows() if _fits(4 * len(store) * (self.widest + 1), device) else None

    def width(self, longest: int) -> int:
        """Return the smallest width that fits `longest` tokens, one special token included."""
        return min(-(-longest // self.step) * self.step, self.widest)

    def batch(self, indices: NDArray[np.int64]) -> PaddedBatch:
        """Return the sentences at indices[B]. source[B, T] also holds the end token, which is never read there."""
        lengths = self.lengths[indices]
        width = self.width(int(lengths.max()))
        if self.rows is None:
            rows = to_device(torch.from_numpy(self._padded(indices, width)), self.device)
        else:
            rows = self.rows[to_device(torch.from_numpy(indices), self.device)]
        rows = rows[:, : width + 1].long()
        labels = None
        if self.store.labels is not None:
            labels = to_device(torch.from_numpy(self.store.labels[indices]), self.device)
        return PaddedBatch(rows[:, :-1], rows[:, 1:], to_device(torch.from_numpy(lengths), self.device), labels)

    def _rows(self) -> Tensor:
        """Return int32[N, longest + 2]: start token, words, end token, padding."""
        rows = torch.empty(len(self.store), self.widest + 1, dtype=torch.int32, device=self.device)
        for first in range(0, len(rows), ROWS_AT_ONCE):
            chosen = np.arange(first, min(first + ROWS_AT_ONCE, len(rows)))
            rows[first : first + len(chosen)] = torch.from_numpy(self._padded(chosen, self.widest))
        return rows

    def _padded(self, indices: NDArray[np.int64], width: int) -> NDArray[np.int32]:
        """Return the sentences at indices[B] as int32[B, width + 1]."""
        batch = self.store.batch(indices, self.spec)
        rows = np.full((len(indices), width + 1), self.spec.pad, np.int32)
        rows[:, 0] = self.spec.start
        rows[:, 1 : 1 + batch.target.shape[1]] = batch.target.numpy()
        return rows


class DeviceImages:
    """The images of a store, on the device."""

    def __init__(self, store: ImageStore, device: torch.device):
        self.pixels, self.device = torch.from_numpy(np.ascontiguousarray(store.pixels)).to(device), device

    def batch(self, indices: NDArray[np.int64]) -> ImageBatch:
        """Return the images at indices[B] as a batch."""
        return ImageBatch(self.pixels[to_device(torch.from_numpy(indices), self.device)].float())


def device_dataset(
    store: Store, spec: DataSpec, longest: int, device: torch.device
) -> PaddedSentences | DeviceImages | None:
    """Put a store on `device` for batches of few shapes; return None if images do not fit."""
    if isinstance(store, TokenStore):
        assert isinstance(spec, TextSpec)
        return PaddedSentences(store, spec, longest, device)
    return DeviceImages(store, device) if _fits(store.pixels.nbytes, device) else None


def _fits(size: int, device: torch.device) -> bool:
    """Return True if `size` bytes may be put on the device; always on a CPU, where they already are."""
    return device.type != "cuda" or size <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]
