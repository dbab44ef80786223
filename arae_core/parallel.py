"""One process or several, split by data: what the ranks must tell each other, in as few collectives as possible.

The parts of an ARAE are trained by different losses through each other, so what is averaged is said step by step: the
gradients of the parameters that a step updates, in one flat all-reduce. Whole modules are not wrapped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Parallel:
    """This process' place: rank of world. The default is a process alone."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_process_group(cls) -> "Parallel":
        """The place in torch's default process group, or alone where there is none."""
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, rows: int) -> float:
        """How much of a batch of so many rows is this rank's."""
        return len(range(self.rank, rows, self.world)) / rows

    def average_gradients(
        self, parameters: Sequence[nn.Parameter], share: float, rows: Mapping[nn.Parameter, Tensor] | None = None
    ) -> None:
        """Replace every gradient by its mean over the ranks, each with its share of the batch. All ranks must pass the
        same parameters.

        rows: of some of them, the only rows whose gradient is not zero on every rank: the same on all ranks.
        """
        if self.world == 1:
            return
        rows = rows or {}
        given = [(p.grad, rows.get(p)) for p in parameters if p.grad is not None]
        sent = [gradient if some is None else gradient[some] for gradient, some in given]
        flat = torch.cat([each.flatten() for each in sent])
        flat *= share
        dist.all_reduce(flat)
        means = torch.split(flat, [each.numel() for each in sent])
        for (gradient, some), each, mean in zip(given, sent, means, strict=True):
            if some is None:
                gradient.copy_(mean.view_as(each))
            else:
                gradient[some] = mean.view_as(each)

    def mean(self, values: Tensor, share: float) -> Tensor:
        """The mean of `values` over the ranks, each with its share of the batch."""
        if self.world == 1:
            return values
        values = values * share
        dist.all_reduce(values)
        return values

    def mine(self, values: Tensor, batches: int = 1) -> Tensor:
        """This rank's rows of a tensor that every rank has drawn for the whole batch, or for so many in one."""
        mine: Tensor = values.unflatten(0, (batches, -1))[:, self.rank :: self.world]
        return mine.flatten(0, 1)
