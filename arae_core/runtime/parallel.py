"""One process or several, split by data: what the ranks must tell each other, in as few collectives as possible.

The parts of an ARAE are trained by different losses through each other, so what is summed is said step by step: the
gradients of the parameters that a step updates, all at once. Whole modules are not wrapped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arae_core.runtime.gradient_allreduce import AllReduce, SharedMemory, make_exchange


@dataclass(frozen=True)
class Parallel:
    """This process' place: rank of world. The default is a process alone."""

    rank: int = 0
    world: int = 1
    exchanges: dict[tuple[torch.device, torch.dtype], AllReduce | SharedMemory] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What sums the gradients, by where they lie and their kind; made when first needed, by all ranks at once."""

    @classmethod
    def from_process_group(cls) -> "Parallel":
        """The place in torch's default process group, or alone where there is none."""
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, rows: int) -> float:
        """How much of a batch of so many rows is this rank's."""
        return len(range(self.rank, rows, self.world)) / rows

    def weighted(self, loss: Tensor, rows: int) -> Tensor:
        """A mean over this rank's share of a batch of so many rows, as its part of the mean over the whole batch."""
        return loss if self.world == 1 else loss * self.share(rows)

    def sum_gradients(
        self, parameters: Sequence[nn.Parameter], rows: Mapping[nn.Parameter, Tensor] | None = None
    ) -> None:
        """Replace every gradient, of a loss that is `weighted`, by its sum over the ranks: the gradient of the whole
        batch. All ranks must pass the same parameters. The gradients lie in a buffer until the next call.

        rows: of some of them, the only rows whose gradient is not zero on every rank: the same on all ranks.
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
        """What sums numbers of that kind, and has room for so many."""
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
        """The mean of `values` over the ranks, each with its share of the batch."""
        if self.world == 1:
            return values
        values = values * share
        dist.all_reduce(values)
        return values

    def local_rows(self, values: Tensor, batches: int = 1) -> Tensor:
        """This rank's rows of a tensor that every rank has drawn for the whole batch, or for so many in one."""
        mine: Tensor = values.unflatten(0, (batches, -1))[:, self.rank :: self.world]
        return mine.flatten(0, 1)
