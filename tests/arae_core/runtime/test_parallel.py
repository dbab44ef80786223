"""Several processes: exact sums, and the same weights, figures and errors as one process."""

import json
import math
import os
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arae_core.attributes import cross_alignment
from arae_core.runtime import gradient_allreduce
from arae_core.runtime.gradient_allreduce import AllReduce, SharedMemory, make_exchange
from arae_core.runtime.parallel import Parallel
from arae_core.training.loop import Report, train
from tests.arae_core.small import assert_same, new_state, settings_of, start_processes, store_of, weights

Case = tuple[str, int, dict[str, Any]]
ALIGNED = {"decoder.alignment_weight": 0.5, "critic.objective": "none"}
EACH_CRITIC_STEP = {"encoder.adversarial_each_critic_step": True}
FOLLOWS = "three classes, aligned, following"
CASES: dict[int, dict[str, Case]] = {
    2: {
        "text wgan-gp": ("text", 20, {"encoder.word_dropout": 0.3, "gradient_clip": 0.5, "generator.average": 0.9}),
        "text wgan-clip": ("text", 7, {"critic.objective": "wgan-clip", "decoder.word_dropout": 0.2}),
        "image": ("image", 20, {}),
        "two classes, separate decoders": ("labelled", 7, {"decoder.conditioning": "separate"}),
        "two classes, markers hidden": ("labelled", 5, {"encoder.marker_ratio": 1.3}),
        "three classes": ("three", 3, {}),
        "three classes, aligned": ("three", 5, ALIGNED),
        FOLLOWS: ("three", 5, ALIGNED | {"batch_size": 5}),
        "text plain": ("text", 5, {"critic.objective": "none"}),
        "text, weights decay": ("text", 5, {"encoder.weight_decay": 0.1, "cooldown": 1.0, "iterations": 7}),
        "text AAE": ("text", 3, {"prior.kind": "gaussian"}),
        "image, encoder each critic step": ("image", 3, EACH_CRITIC_STEP),
    },
    3: {
        "text of 9": ("text", 20, {"batch_size": 9}),
        "summed updates": ("labelled", 5, {"batch_size": 7, "encoder.updates": "summed"}),
        "image of 9": ("image", 3, {"batch_size": 9}),
        "text of 7, uneven": ("text", 7, {"batch_size": 7, "encoder.word_dropout": 0.3}),
        "classes of 11, uneven": ("labelled", 5, {"batch_size": 11}),
        "image of 5, uneven, encoder each critic step": ("image", 3, {"batch_size": 5} | EACH_CRITIC_STEP),
    },
}
"""Number of ranks -> name -> kind of data, iterations, settings."""
RATES = {"batch_size": 6} | {f"{part}.learning_rate": 1e300 for part in ("encoder", "decoder", "generator", "critic")}
TURNS, LIKE = 7, torch.zeros((), dtype=torch.float64)


def run(name: str, case: Case, parallel: Parallel) -> tuple[dict[str, Tensor], Report]:
    """Return the weights and the last report as this rank has them.

    In the case FOLLOWS, the autoencoder follows the discriminators of cross-alignment from the start.
    """
    kind, until, changes = case
    follows: dict[str, Any] = {"UNINFORMATIVE": math.inf, "MAX_GRADIENT_NORM": 1e-4}
    with patch.multiple(cross_alignment, **follows) if name == FOLLOWS else nullcontext():
        state = new_state(settings_of(kind, changes), kind)
        *_, report = train(state, store_of(kind), parallel, until=until, every=until)
    return weights(state), report


def parts(rank: int, turn: int) -> list[Tensor]:
    """Return tensors to sum: several shapes, and a different size in each turn."""
    rng = np.random.default_rng((rank, turn))
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in ((3, 5), (2 + turn % 3,), (), (0,), (7, 1))]


def sums(rank: int, world: int, kind: type, missing: range = range(0)) -> list[list[float]]:
    """Return this rank's sums of all turns. In each turn another rank is late to read the values of the others.

    kind: the expected exchange. missing: ranks, counted from the last, that have no shared memory.
    """
    folder = "/no/such/folder" if rank - world in missing else gradient_allreduce.SHARED
    with patch.object(gradient_allreduce, "SHARED", folder):
        found = make_exchange(rank, world, 30, LIKE)
    assert isinstance(found, kind)
    barrier, totals = dist.barrier, []
    barrier()
    assert not list(Path(gradient_allreduce.SHARED).iterdir()), "the memory still has a name"
    for turn in range(TURNS):

        def late(now: int = turn) -> None:
            barrier()
            time.sleep(0.03 * (now % world == rank))

        with patch.object(dist, "barrier", late):
            totals.append(found.total(parts(rank, turn)).tolist())
    return totals


SUMS = {
    "shared memory": partial(sums, kind=SharedMemory),
    "last rank on another machine": partial(sums, kind=AllReduce, missing=range(-1, 0)),
    "no shared memory": partial(sums, kind=AllReduce, missing=range(-9, 0)),
}


def worker(rank: int, world: int, folder: str, shared: str) -> None:
    """Run every case as one process of `world`; write the results."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    gradient_allreduce.SHARED = shared
    parallel = Parallel.from_process_group()
    assert parallel == Parallel(rank, world)
    assert SharedMemory.of_ranks(rank, world, 10**14, LIKE) is None, "a petabyte is refused when it is reserved"
    for name, case in SUMS.items():
        (Path(folder) / f"{name} {rank}.json").write_text(json.dumps(case(rank, world)))
    for name, run_case in CASES[world].items():
        tensors, report = run(name, run_case, parallel)
        save_file(tensors, Path(folder) / f"{name} {rank}.safetensors")
        (Path(folder) / f"{name} {rank}.json").write_text(json.dumps(report.scalars))
    with pytest.raises(FloatingPointError) as caught:
        run("", ("text", 4, RATES), parallel)
    (Path(folder) / f"error {rank}.txt").write_text(str(caught.value))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folder of results for each number of ranks. Each has its own folder of shared memory."""
    folders = {}
    within = gradient_allreduce.SHARED if os.path.isdir(gradient_allreduce.SHARED) else None
    for world in CASES:
        folders[world] = tmp_path_factory.mktemp(f"world{world}")
        with tempfile.TemporaryDirectory(dir=within) as shared:
            start_processes(worker, (world, str(folders[world]), shared), nprocs=world)
    return folders


@pytest.mark.parametrize(("world", "name"), [(world, name) for world, cases in CASES.items() for name in cases])
def test_ranks_compute_the_same_as_one_process(world: int, name: str, results: dict[int, Path]) -> None:
    """All ranks are bit-identical to each other."""
    kind, _, changes = case = CASES[world][name]
    alone, report = run(name, case, Parallel())
    before = weights(new_state(settings_of(kind, changes), kind))
    changed = [key for key in alone if key.startswith("encoder.") and alone[key].is_floating_point()]
    assert any(float((alone[key] - before[key]).abs().max()) > 1e-3 for key in changed)
    if name == FOLLOWS:
        assert not torch.equal(alone["decoder.embedding.weight"], before["decoder.embedding.weight"])
    ranks = [load_file(results[world] / f"{name} {rank}.safetensors") for rank in range(world)]
    for rank, tensors in enumerate(ranks):
        assert_same(ranks[0], tensors)
        assert_same(alone, tensors, 1e-9)
        scalars = json.loads((results[world] / f"{name} {rank}.json").read_text())
        assert scalars.keys() == report.scalars.keys()
        for measure in {"reconstruction_loss", "distance", "gradient_norm", "gradient_penalty"} & scalars.keys():
            assert scalars[measure] == pytest.approx(report.scalars[measure], abs=1e-9), measure


@pytest.mark.parametrize("world", CASES)
@pytest.mark.parametrize("name", SUMS)
def test_every_rank_has_the_sum_over_all_ranks(name: str, world: int, results: dict[int, Path]) -> None:
    found = [json.loads((results[world] / f"{name} {rank}.json").read_text()) for rank in range(world)]
    for turn in range(TURNS):
        given = [np.concatenate([each.numpy().ravel() for each in parts(rank, turn)]) for rank in range(world)]
        np.testing.assert_allclose(found[0][turn], np.sum(given, 0), rtol=0, atol=1e-14)
    assert all(other == found[0] for other in found[1:]), "ranks differ"


@pytest.mark.parametrize("world", CASES)
def test_divergence_is_raised_on_every_rank(world: int, results: dict[int, Path]) -> None:
    (message,) = {(results[world] / f"error {rank}.txt").read_text() for rank in range(world)}
    assert "not finite at step 4" in message
    assert "1e+300" in message and "encoder.adversarial_weight" in message


def test_only_few_ranks_on_cpus_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(SharedMemory, "of_ranks", lambda *arguments: calls.append(arguments))
    for world, like in ((4, torch.zeros(())), (5, torch.zeros(())), (2, torch.zeros((), device="meta"))):
        assert isinstance(make_exchange(1, world, 11, like), AllReduce)
        assert len(calls) == 1


def test_one_process_needs_no_group() -> None:
    alone, parameter = Parallel.from_process_group(), nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([1.0, 2.0, 3.0])
    alone.sum_gradients([parameter])
    assert alone == Parallel(0, 1)
    assert parameter.grad.tolist() == [1, 2, 3] == alone.mean(parameter.grad, 1.0).tolist()


def test_ranks_share_the_rows_of_one_batch_or_of_several() -> None:
    values = torch.arange(12).reshape(6, 2)
    rows = [Parallel(rank, 3).local_rows(values) for rank in range(3)]
    assert [len(own) for own in rows] == [2, 2, 2]
    assert sorted(torch.cat(rows)[:, 0].tolist()) == values[:, 0].tolist()
    assert [Parallel(rank, 4).share(6) for rank in range(4)] == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6])
    two = torch.arange(10)  # of five rows
    assert Parallel(0, 2).local_rows(two, 2).tolist() == [0, 2, 4, 5, 7, 9]
    assert Parallel(1, 2).local_rows(two, 2).tolist() == [1, 3, 6, 8]
