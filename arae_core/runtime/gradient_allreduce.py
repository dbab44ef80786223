"""How the ranks' gradients are summed: by an all-reduce, or on one machine in memory that its processes share.

Between processes of one machine gloo sends through the network's stack, in several steps: for two ranks twice what it
takes to write and read the same numbers.
"""

import os
import secrets
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

SHARED = "/dev/shm"
"""Where Linux keeps files in memory."""
MOST = 4
"""Ranks up to which memory is shared: each reads what all have written."""


class AllReduce:
    """Sums by the process group's own all-reduce, in a buffer that is kept: new memory the operating system clears page
    by page, which takes longer than to fill it."""

    def __init__(self, size: int, like: Tensor):
        self.size, self.buffer = size, like.new_empty(size)

    def total(self, tensors: Sequence[Tensor]) -> Tensor:
        """The sum over the ranks of their tensors, flat and one after the other; it lies there until the next call."""
        flat = self.buffer[: sum(each.numel() for each in tensors)]
        torch.cat([each.flatten() for each in tensors], out=flat)
        dist.all_reduce(flat)
        return flat


class SharedMemory:
    """Sums in memory that all ranks see. Each has two places there and takes them in turn: whoever has passed a barrier
    may write into the one while others still read the other.
    """

    def __init__(self, memory: Tensor, rank: int, world: int):
        self.size = memory.numel() // (2 * world)
        self.places = [turn.chunk(world) for turn in memory.chunk(2)]
        self.rank, self.turn = rank, 0
        self.buffer = torch.empty(self.size, dtype=memory.dtype)

    @classmethod
    def of_ranks(cls, rank: int, world: int, size: int, like: Tensor) -> "SharedMemory | None":
        """Room for `size` numbers like those of a tensor. To be called by all ranks; None for all of them where one
        cannot have it: another machine, no such memory, or not enough.

        The file has no name any more when this returns, so that whatever ends the processes frees it.
        """
        name = torch.tensor([secrets.randbits(62)])
        dist.broadcast(name, 0)
        path, numbers = f"{SHARED}/arae-{int(name):x}", 2 * world * size
        if rank == 0:
            _reserve(path, numbers * like.element_size())
        dist.barrier()
        memory = _mapped(path, numbers, like.dtype)
        everywhere = torch.tensor([memory is not None], dtype=torch.int)
        dist.all_reduce(everywhere, dist.ReduceOp.MIN)
        if rank == 0 and os.path.exists(path):
            os.unlink(path)
        return cls(memory, rank, world) if memory is not None and everywhere else None

    def total(self, tensors: Sequence[Tensor]) -> Tensor:
        """As `AllReduce.total`: added in the order of the ranks, the same bits on all of them."""
        size = sum(each.numel() for each in tensors)
        places, flat = [place[:size] for place in self.places[self.turn]], self.buffer[:size]
        torch.cat([each.flatten() for each in tensors], out=places[self.rank])
        dist.barrier()
        torch.add(places[0], places[1], out=flat)
        for place in places[2:]:
            flat += place
        self.turn = 1 - self.turn
        return flat


def make_exchange(rank: int, world: int, size: int, like: Tensor) -> AllReduce | SharedMemory:
    """The faster of the two that is to be had, for `size` numbers like those of a tensor. To be called by all ranks."""
    if like.device.type == "cpu" and world <= MOST:
        return SharedMemory.of_ranks(rank, world, size, like) or AllReduce(size, like)
    return AllReduce(size, like)


def _reserve(path: str, length: int) -> None:
    """Make a file of so many bytes, or none where they are not to be had. They are taken now: memory that is only
    promised ends the process that writes to it when there is none left."""
    try:
        with open(path, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, length)
    except OSError:
        if os.path.exists(path):
            os.unlink(path)


def _mapped(path: str, numbers: int, dtype: torch.dtype) -> Tensor | None:
    if not os.path.exists(path):
        return None
    try:
        return torch.from_file(path, shared=True, size=numbers, dtype=dtype)
    except RuntimeError:
        return None
