"""Sums over ranks by an all-reduce and in shared memory, in real processes."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from arae_core.runtime import gradient_allreduce
from arae_core.runtime.gradient_allreduce import AllReduce, SharedMemory, make_exchange

WORLDS = (2, 3)
TURNS = 7
LIKE = torch.zeros((), dtype=torch.float64)


def parts(rank: int, turn: int) -> list[torch.Tensor]:
    """Return the tensors of a rank in a turn: several shapes, and a different size in each turn."""
    rng = np.random.default_rng((rank, turn))
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in ((3, 5), (2 + turn % 3,), (), (0,), (7, 1))]


def sums(rank: int, world: int, found: AllReduce | SharedMemory) -> list[list[float]]:
    """Return this rank's sums of all turns. In each turn another rank is late to read the values of the others."""
    barrier, totals = dist.barrier, []
    for turn in range(TURNS):

        def late(now: int = turn) -> None:
            barrier()
            time.sleep(0.03 * (now % world == rank))

        with patch.object(dist, "barrier", late):
            totals.append(found.total(parts(rank, turn)).tolist())
    return totals


def no_names_are_left() -> bool:
    """Return True if no file has a name when all ranks are done."""
    dist.barrier()
    return not list(Path(gradient_allreduce.SHARED).iterdir())


def all_reduce(rank: int, world: int) -> list[list[float]]:
    return sums(rank, world, AllReduce(30, LIKE))


def shared_memory(rank: int, world: int) -> list[list[float]]:
    found = make_exchange(rank, world, 30, LIKE)
    assert isinstance(found, SharedMemory) and no_names_are_left()
    return sums(rank, world, found)


def missing_on(missing: range, rank: int, world: int) -> list[list[float]]:
    """These ranks have no shared memory."""
    folder = "/no/such/folder" if rank - world in missing else gradient_allreduce.SHARED
    with patch.object(gradient_allreduce, "SHARED", folder):
        found = make_exchange(rank, world, 30, LIKE)
    assert isinstance(found, AllReduce) and no_names_are_left()
    return sums(rank, world, found)


def too_little_memory(rank: int, world: int) -> list[list[float]]:
    """A petabyte is refused when it is reserved, not when it is written."""
    assert SharedMemory.of_ranks(rank, world, 10**14, LIKE) is None and no_names_are_left()
    return all_reduce(rank, world)


CASES: dict[str, Callable[[int, int], list[list[float]]]] = {
    "all-reduce": all_reduce,
    "shared memory": shared_memory,
    "last rank on another machine": partial(missing_on, range(-1, 0)),
    "no shared memory": partial(missing_on, range(-9, 0)),
    "too little memory": too_little_memory,
}


def worker(rank: int, world: int, folder: str, shared: str) -> None:
    """Run every case as one process of `world`; write the results to a file each."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    with patch.object(gradient_allreduce, "SHARED", shared):
        for name, case in CASES.items():
            (Path(folder) / f"{name} {rank}.json").write_text(json.dumps(case(rank, world)))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folder of results for each number of ranks. The shared memory has a folder of its own."""
    folders = {}
    within = gradient_allreduce.SHARED if os.path.isdir(gradient_allreduce.SHARED) else None
    for world in WORLDS:
        folders[world] = tmp_path_factory.mktemp(f"world{world}")
        with tempfile.TemporaryDirectory(dir=within) as shared:
            mp.spawn(worker, (world, str(folders[world]), shared), nprocs=world)  # type: ignore[attr-defined, no-untyped-call]
    return folders


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_the_sum_over_all_ranks(name: str, world: int, results: dict[int, Path]) -> None:
    found = [json.loads((results[world] / f"{name} {rank}.json").read_text()) for rank in range(world)]
    for turn in range(TURNS):
        given = [np.concatenate([each.numpy().ravel() for each in parts(rank, turn)]) for rank in range(world)]
        np.testing.assert_allclose(found[0][turn], np.sum(given, 0), rtol=0, atol=1e-14)
    assert all(other == found[0] for other in found[1:]), "ranks differ"


def test_only_few_ranks_on_cpus_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(SharedMemory, "of_ranks", lambda *arguments: calls.append(arguments))
    for world, like in ((4, torch.zeros(())), (5, torch.zeros(())), (2, torch.zeros((), device="meta"))):
        assert isinstance(make_exchange(1, world, 11, like), AllReduce)
        assert len(calls) == 1
