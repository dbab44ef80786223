"""The batches of every step.

A batch depends on the seed and the step alone. So a run resumes without any state of its data, and every rank knows
the whole batch, from which it takes its own rows.

Shapes: B examples in this rank's batch, N examples in the store, W workers.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from arae_core.data.batches import Batch, Store, TextBatch, TokenStore, class_shares, grouped_order, make_batch
from arae_core.data.data_spec import DataSpec, TextSpec
from arae_core.data.device_dataset import device_dataset
from arae_core.settings.checks import between


class BatchSampler:
    """Sampler of the batches of every step. This rank takes rows rank, rank + W, ... of each.

    Step (1) iterates over epochs in an order that is grouped by length. Step (2b) and the encoder's part of step (3) do
    the same in other orders. Step (2) draws examples uniformly. All but step (1) see the classes equally often.
    """

    RECONSTRUCTION, ADVERSARIAL, CRITIC, CLASSIFIER = 0, 1, 2, 4  # 3 belongs to priors.fitting

    def __init__(
        self,
        store: Store,
        spec: DataSpec,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        padded_to: int = 0,
    ):
        """padded_to: largest number of tokens in a sentence if steps are captured (see `device_dataset`), else 0.

        Raise ValueError for a batch that is larger than the data or smaller than the number of ranks or classes, and
        for labels that are missing or not among the classes.
        """
        if batch_size < world:
            raise ValueError(f"batch_size must be >= {world}, the number of workers, got {batch_size}")
        if isinstance(spec, TextSpec) != isinstance(store, TokenStore):
            raise ValueError(f"the model is for {type(spec).__name__}, the examples are a {type(store).__name__}")
        if isinstance(store, TokenStore) and isinstance(spec, TextSpec) and spec.classes:
            if store.labels is None:
                raise ValueError(f"the sentences must have labels: the model has classes, {', '.join(spec.classes)}")
            for label in (store.labels.min(initial=0), store.labels.max(initial=0)):
                between("labels", int(label), 0, len(spec.classes) - 1)
        self.store, self.spec, self.batch_size, self.seed = store, spec, batch_size, seed
        self.rank, self.world, self.device = rank, world, torch.device(device)
        self.batches_per_epoch = -(-len(store) // batch_size)
        self._on_device = device_dataset(store, spec, padded_to, self.device) if padded_to else None
        self._lengths = store.lengths if isinstance(store, TokenStore) else None
        self._labels = store.labels if isinstance(store, TokenStore) else None
        self._shares = [] if self._labels is None else class_shares(self._labels, batch_size)
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}
        self._grouped(self.RECONSTRUCTION, 0)

    def reconstruction_batch(self, step: int) -> tuple[Batch, float]:
        """Return the batch of step (1), and the number of tokens or pixels in the batches of all ranks."""
        indices = self._grouped(self.RECONSTRUCTION, step)
        if isinstance(self.store, TokenStore):
            targets = int((self.store.offsets[indices + 1] - self.store.offsets[indices] + 1).sum())
        else:
            targets = self.store.pixels.shape[1] * len(indices)
        return self._make(indices), float(targets)

    def adversarial_batch(self, step: int) -> Batch:
        """Return another batch, for the encoder's part of step (3) and for step (3b)."""
        return self._make(self._grouped(self.ADVERSARIAL, step))

    def classifier_batch(self, step: int) -> Batch:
        """Return the batch of step (2b)."""
        return self._make(self._grouped(self.CLASSIFIER, step))

    def critic_batches(self, step: int, k: int) -> Batch:
        """Return the k batches of step (2) in one; consecutive blocks of B / k examples are this rank's rows of each.

        Examples are drawn uniformly: in batches grouped by length, the critic would compare lengths, not codes.
        """
        rng = np.random.default_rng((self.seed, self.CRITIC, step))
        if self._shares:
            columns = [members[rng.integers(len(members), size=(k, width))] for members, width in self._shares]
            return self._make(np.concatenate(columns, 1))
        return self._make(rng.integers(len(self.store), size=(k, self.batch_size)))

    def _grouped(self, stream: int, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self.batches_per_epoch)
        if stream not in self._orders or self._orders[stream][0] != epoch:
            seed = (self.seed, stream, epoch)
            labels = None if stream == self.RECONSTRUCTION else self._labels
            self._orders[stream] = epoch, grouped_order(self._lengths, len(self.store), self.batch_size, seed, labels)
        order: NDArray[np.int64] = self._orders[stream][1][position]
        return order

    def _make(self, indices: NDArray[np.int64]) -> Batch:
        """Return this rank's rows of the batch at indices[batch_size], or of k batches at indices[k, batch_size]."""
        own = indices[..., self.rank :: self.world].flatten()
        batch: Batch
        if self._on_device is not None:
            batch = self._on_device.batch(own)
        else:
            batch = make_batch(self.store, own, self.spec, self.device)
        if self.world > 1 and isinstance(batch, TextBatch) and indices.ndim == 1:
            return replace(batch, words=torch.from_numpy(self._words(indices)))
        return batch

    def _words(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids that may be read in the sentences at indices[batch_size]: their words, the start token, and
        the unknown token, which replaces dropped words."""
        assert isinstance(self.store, TokenStore) and isinstance(self.spec, TextSpec)
        read = [self.store.row(int(i)) for i in indices]
        return np.unique(np.concatenate([*read, [self.spec.start, self.spec.unknown]])).astype(np.int64)
