"""Sums over ranks, by an all-reduce and in shared memory: real processes, each with an exchange of its own."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist

from arae_core.runtime import gradient_allreduce
from arae_core.runtime.gradient_allreduce import AllReduce, SharedMemory, make_exchange
from tests.arae_core.small import start_processes

WORLDS = (2, 3)
TURNS = 7


def parts(rank: int, turn: int) -> list[torch.Tensor]:
    """What a rank gives in that turn: tensors of several shapes, more or fewer numbers each time."""
    rng = np.random.default_rng((rank, turn))
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in ((3, 5), (2 + turn % 3,), (), (0,), (7, 1))]


LIKE = torch.zeros((), dtype=torch.float64)


def sums(rank: int, world: int, found: AllReduce | SharedMemory) -> list[list[float]]:
    """The sums of all turns, as this rank has them; another rank in each turn is slow to read what the others gave."""
    barrier, totals = dist.barrier, []
    for turn in range(TURNS):

        def late(now: int = turn) -> None:
            barrier()
            time.sleep(0.03 * (now % world == rank))

        with patch.object(dist, "barrier", late):
            totals.append(found.total(parts(rank, turn)).tolist())
    return totals


def names_left() -> list[Path]:
    """Files that still have a name when all ranks are done."""
    dist.barrier()
    return list(Path(gradient_allreduce.SHARED).iterdir())


def by_all_reduce(rank: int, world: int) -> list[list[float]]:
    return sums(rank, world, AllReduce(30, LIKE))


def in_shared_memory(rank: int, world: int) -> list[list[float]]:
    found = make_exchange(rank, world, 30, LIKE)
    assert isinstance(found, SharedMemory) and not names_left()
    return sums(rank, world, found)


def without_such_memory(rank: int, world: int) -> list[list[float]]:
    with patch.object(gradient_allreduce, "SHARED", "/no/such/folder"):
        found = make_exchange(rank, world, 30, LIKE)
    assert isinstance(found, AllReduce)
    return sums(rank, world, found)


def on_another_machine(rank: int, world: int) -> list[list[float]]:
    """The last rank sees another folder."""
    with patch.object(
        gradient_allreduce, "SHARED", gradient_allreduce.SHARED if rank < world - 1 else "/no/such/folder"
    ):
        found = make_exchange(rank, world, 30, LIKE)
    assert isinstance(found, AllReduce) and not names_left()
    return sums(rank, world, found)


def without_room(rank: int, world: int) -> list[list[float]]:
    """A petabyte: refused when it is asked for, not when it is written."""
    assert SharedMemory.of_ranks(rank, world, 10**14, LIKE) is None and not names_left()
    return by_all_reduce(rank, world)


CASES: dict[str, Callable[[int, int], list[list[float]]]] = {
    each.__name__: each
    for each in (by_all_reduce, in_shared_memory, without_such_memory, on_another_machine, without_room)
}


def worker(rank: int, world: int, folder: str, shared: str) -> None:
    """One process of `world`: every case in turn, what it found in a file each."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    with patch.object(gradient_allreduce, "SHARED", shared):
        for name, case in CASES.items():
            (Path(folder) / f"{name} {rank}.json").write_text(json.dumps(case(rank, world)))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Where the ranks of each world have written. Their memory has a folder of its own: other trainings may run."""
    folders = {}
    for world in WORLDS:
        folders[world] = tmp_path_factory.mktemp(f"world{world}")
        with tempfile.TemporaryDirectory(
            dir=gradient_allreduce.SHARED if os.path.isdir(gradient_allreduce.SHARED) else None
        ) as shared:
            start_processes(worker, (world, str(folders[world]), shared), nprocs=world)
    return folders


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_the_sum_over_all(name: str, world: int, results: dict[int, Path]) -> None:
    found = [json.loads((results[world] / f"{name} {rank}.json").read_text()) for rank in range(world)]
    for turn in range(TURNS):
        given = [np.concatenate([each.numpy().ravel() for each in parts(rank, turn)]) for rank in range(world)]
        np.testing.assert_allclose(found[0][turn], np.sum(given, 0), rtol=0, atol=1e-14)
    assert all(other == found[0] for other in found[1:]), "not the same bits on all ranks"


def test_few_ranks_on_processors_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(SharedMemory, "of_ranks", lambda *arguments: asked.append(arguments))
    for world, like in ((4, torch.zeros(())), (5, torch.zeros(())), (2, torch.zeros((), device="meta"))):
        assert isinstance(make_exchange(1, world, 11, like), AllReduce)
        assert len(asked) == 1
