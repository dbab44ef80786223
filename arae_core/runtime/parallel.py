"""Data parallelism over processes (ranks), with as few collectives as possible.

The parts of an ARAE are trained through each other by different losses. So each step sums the gradients of the
parameters that it updates, all at once, and no module is wrapped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arae_core.runtime.gradient_allreduce import AllReduce, SharedMemory, make_exchange


@dataclass(frozen=True)
class Parallel:
    """The rank of this process and the number of ranks, `world`. By default there is one process."""

    rank: int = 0
    world: int = 1
    exchanges: dict[tuple[torch.device, torch.dtype], AllReduce | SharedMemory] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Device and dtype -> the object that sums such gradients, created by all ranks together when first needed."""

    @classmethod
    def from_process_group(cls) -> "Parallel":
        """Return this process's place in torch's default process group; a single process without a group."""
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, rows: int) -> float:
        """Return this rank's share of a batch of `rows` rows, in [0, 1]."""
        return len(range(self.rank, rows, self.world)) / rows

    def weighted(self, loss: Tensor, rows: int) -> Tensor:
        """Turn a mean over this rank's rows into its part of the mean over a batch of `rows` rows."""
        return loss if self.world == 1 else loss * self.share(rows)

    def sum_gradients(
        self, parameters: Sequence[nn.Parameter], rows: Mapping[nn.Parameter, Tensor] | None = None
    ) -> None:
        """Replace the gradients of a `weighted` loss by their sum over the ranks, the gradient of the whole batch.

        All ranks must pass the same parameters. The gradients are views of a buffer that the next call overwrites.
        rows: for some parameters, the rows whose gradient may differ from 0, the same on all ranks.
        """
        if self.world == 1:
            return
        rows = rows or {}
        given = [(p, p.grad, rows.get(p)) for p in parameters if p.grad is not None]
        sent = [gradient if some is None else gradient[some] for _, gradient, some in given]
        total = self._exchange_for(sent).total(sent)
        sums = torch.split(total, [each.numel() for each in sent])
        for (parameter, gradient, some), each in zip(given, sums, strict=True):
            if some is None:
                parameter.grad = each.view_as(gradient)
            else:
                gradient[some] = each.view(len(some), -1)

    def _exchange_for(self, tensors: Sequence[Tensor]) -> AllReduce | SharedMemory:
        """Return an exchange for the device and dtype of the tensors that is large enough."""
        size, like = sum(each.numel() for each in tensors), tensors[0]
        kept = self.exchanges.get((like.device, like.dtype))
        if kept is None or kept.size < size:
            kept = make_exchange(self.rank, self.world, size + size // 4, like)
            self.exchanges[like.device, like.dtype] = kept
        return kept

    def whole_batch(self, own: Tensor, rows: int) -> Tensor:
        """Gather a batch of `rows` rows from this rank's rows own[B, ...] and those of the others, in their order.

        Gradients flow to `own` alone: their sum over the ranks is the gradient of a loss of the whole batch.
        """
        if self.world == 1:
            return own
        most = -(-rows // self.world)
        padded = torch.cat([own.detach(), own.detach().new_zeros(most - len(own), *own.shape[1:])])
        gathered = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(gathered, padded)
        whole = torch.stack(gathered, 1).flatten(0, 1)[:rows]
        return whole.index_copy(0, torch.arange(self.rank, rows, self.world, device=own.device), own)

    def mean(self, values: Tensor, share: float) -> Tensor:
        """Return the mean of `values` over the ranks. share: this rank's share of the batch."""
        if self.world == 1:
            return values
        values = values * share
        dist.all_reduce(values)
        return values

    def local_rows(self, values: Tensor, batches: int = 1) -> Tensor:
        """Return this rank's rows of a tensor that every rank has drawn for one batch, or for `batches` batches."""
        mine: Tensor = values.unflatten(0, (batches, -1))[:, self.rank :: self.world]
        return mine.flatten(0, 1)
