"""Sums of gradients over ranks: by an all-reduce, or in shared memory if all ranks are on one machine.

Between processes of one machine, gloo sends data through the network stack in several steps. For two ranks this takes
twice as long as writing and reading the same numbers in memory.
"""

import os
import secrets
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

SHARED = "/dev/shm"
"""Folder of Linux whose files are kept in memory."""
MAX_RANKS = 4
"""Largest number of ranks that share memory: each rank reads the values of all."""


class AllReduce:
    """Sums by the all-reduce of the process group.

    The buffer is kept, because the operating system takes longer to clear the pages of a new one than it takes to fill
    them.
    """

    def __init__(self, size: int, like: Tensor):
        self.size, self.buffer = size, like.new_empty(size)

    def total(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the sum of the tensors over all ranks, flattened and concatenated. The next call overwrites it."""
        flat = self.buffer[: sum(each.numel() for each in tensors)]
        torch.cat([each.flatten() for each in tensors], out=flat)
        dist.all_reduce(flat)
        return flat


class SharedMemory:
    """Sums in memory that all ranks share.

    Each rank has two slots and uses them alternately: after a barrier it may write to one slot while other ranks still
    read the other.
    """

    def __init__(self, memory: Tensor, rank: int, world: int):
        self.size = memory.numel() // (2 * world)
        self.slots = [turn.chunk(world) for turn in memory.chunk(2)]
        self.rank, self.turn = rank, 0
        self.buffer = torch.empty(self.size, dtype=memory.dtype)

    @classmethod
    def of_ranks(cls, rank: int, world: int, size: int, like: Tensor) -> "SharedMemory | None":
        """Reserve shared memory for `size` numbers of the type of `like`. All ranks must call this together.

        Return None on all ranks if one of them cannot map the memory: it is on another machine, or there is no shared
        memory, or too little. The file has lost its name when this returns, so the end of the processes frees it.
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
        """Like `AllReduce.total`, added in the order of the ranks: the result is bit-identical on all ranks."""
        size = sum(each.numel() for each in tensors)
        slots, flat = [slot[:size] for slot in self.slots[self.turn]], self.buffer[:size]
        torch.cat([each.flatten() for each in tensors], out=slots[self.rank])
        dist.barrier()
        torch.add(slots[0], slots[1], out=flat)
        for slot in slots[2:]:
            flat += slot
        return flat


def make_exchange(rank: int, world: int, size: int, like: Tensor) -> AllReduce | SharedMemory:
    """Return the fastest available way to sum `size` numbers of the type of `like`. All ranks must call this."""
    if like.device.type == "cpu" and world <= MAX_RANKS:
        return SharedMemory.of_ranks(rank, world, size, like) or AllReduce(size, like)
    return AllReduce(size, like)


def _reserve(path: str, length: int) -> None:
    """Create a file of `length` bytes, or none if there is too little memory.

    The memory is allocated now: a process that writes to memory that was only promised is killed if none is left.
    """
    try:
        with open(path, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, length)
    except OSError:
        if os.path.exists(path):
            os.unlink(path)


def _mapped(path: str, numbers: int, dtype: torch.dtype) -> Tensor | None:
    """Map a file as a tensor; return None if that fails."""
    if not os.path.exists(path):
        return None
    try:
        return torch.from_file(path, shared=True, size=numbers, dtype=dtype)
    except RuntimeError:
        return None
