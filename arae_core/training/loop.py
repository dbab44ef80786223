"""The training loop: iterations of Algorithm 1 or 2, and a report at regular intervals."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arae_core.algorithm import Scalars, iteration, run_eagerly
from arae_core.attributes.markers import attribute_markers
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import Store, TokenStore, evenly_spaced, make_batch
from arae_core.data.data_spec import TextSpec
from arae_core.priors.fitting import fit_prior, is_fitted
from arae_core.runtime.allocator import keep_freed_memory
from arae_core.runtime.cuda_graphs import graph_stream, make_step_runner
from arae_core.runtime.parallel import Parallel
from arae_core.runtime.precision import check_precision
from arae_core.settings import Settings
from arae_core.settings.checks import require
from arae_core.training.state import TrainingState

__all__ = ["Report", "TrainingState", "evaluate_reconstruction", "total_iterations", "train"]


@dataclass(frozen=True)
class Report:
    """Measurements since the last report: `scalars` are means over iterations and ranks."""

    step: int
    scalars: dict[str, float]


def total_iterations(settings: Settings, examples: int) -> int:
    """Iterations of the whole run: `iterations` if it is set, else those of `epochs` passes over the examples."""
    return settings.iterations or settings.epochs * math.ceil(examples / settings.batch_size)


def check_lengths(store: Store, settings: Settings) -> None:
    """Raise ValueError if a sentence is longer than `longest`."""
    if isinstance(store, TokenStore) and len(store) and int(store.lengths.max()) > settings.longest:
        raise ValueError(f"longest must be >= {store.lengths.max()}, the longest example, got {settings.longest}")


def train(
    state: TrainingState, store: Store, parallel: Parallel | None = None, *, until: int, every: int | Sequence[int]
) -> Iterator[Report]:
    """Train from `state.step` to step `until`; yield a report at each multiple of `every` (or of any of them) and at
    the end.

    The consumer may save, evaluate or stop between two reports; training continues when it asks for the next. Raise
    FloatingPointError, on every rank alike, if a loss or a weight is no longer finite, and ValueError if the batch does
    not fit the data or the ranks, the labels the classes, or the device the precision.
    """
    intervals = [every] if isinstance(every, int) else every
    require(min(intervals, default=0) >= 1, "every", every, "iterations >= 1")
    parallel = parallel or Parallel()
    check_precision(state.settings, state.device)
    state.settings.check_shares(parallel.world)
    check_lengths(store, state.settings)
    if state.device.type == "cpu":
        keep_freed_memory()
    data = BatchSampler(
        store,
        state.spec,
        state.settings.batch_size,
        state.settings.seed,
        rank=parallel.rank,
        world=parallel.world,
        device=state.device,
        padded_to=state.settings.longest if state.device.type == "cuda" else 0,
    )
    if state.step == 0:
        find_markers(state, store)
    state.end = total_iterations(state.settings, len(store))
    run = make_step_runner(state, parallel) or run_eagerly
    state.modules.train()
    while state.step < until:
        first, started = state.step, time.perf_counter()
        stop = min(until, *((first // interval + 1) * interval for interval in intervals))
        done = stop - first
        with graph_stream(run):
            scalars = run_and_average(lambda: iteration(state, data, parallel, run), done, parallel, state)
        seconds = time.perf_counter() - started
        if is_fitted(state.prior):
            fit_prior(state, store)
        scalars["noise"] = state.noise
        scalars["examples_per_second"] = done * state.settings.batch_size / seconds
        scalars["ms_per_iteration"] = 1000 * seconds / done
        scalars["epoch"] = stop / data.batches_per_epoch
        yield Report(stop, scalars)
        state.modules.train()  # the consumer may have drawn samples


def find_markers(state: TrainingState, store: Store) -> None:
    """Set the attribute markers of an encoder that hides them."""
    markers: Tensor | None = getattr(state.modules["encoder"], "markers", None)
    if markers is not None:
        assert isinstance(store, TokenStore) and isinstance(state.spec, TextSpec)
        found = attribute_markers(store, state.spec, state.settings.encoder.marker_ratio)
        markers.copy_(torch.from_numpy(found))


def run_and_average(
    step: Callable[[], Scalars], count: int, parallel: Parallel, state: TrainingState
) -> dict[str, float]:
    """Call step() `count` times; return the means of its scalars over calls and ranks.

    Raise FloatingPointError, on every rank alike, if one of them or a weight of the state is no longer finite.
    """
    sums: dict[str, Tensor] = {}
    for _ in range(count):
        scalars = step()
        for name in scalars:  # in their order, which must be the same on all ranks
            sums.setdefault(name, torch.zeros((), dtype=state.dtype, device=state.device))
        torch._foreach_add_([sums[name] for name in scalars], [value.to(state.dtype) for value in scalars.values()])
    weights = torch.stack([p.detach().sum() for p in state.modules.parameters()]).sum()
    share = parallel.share(state.settings.batch_size)
    values = torch.stack([*(value / count for value in sums.values()), weights])
    over_ranks = parallel.mean(values, share).tolist()  # the only wait for the device
    found = dict(zip([*sums, "weights"], over_ranks, strict=True))
    bad = [name for name, value in found.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"{', '.join(bad)} not finite at step {state.step}: training diverged. Lower the learning rates "
            f"(encoder {state.settings.encoder.learning_rate:g}, decoder {state.settings.decoder.learning_rate:g}, "
            f"generator {state.settings.generator.learning_rate:g}, critic {state.settings.critic.learning_rate:g}) or "
            f"encoder.adversarial_weight ({state.settings.encoder.adversarial_weight:g})"
        )
    del found["weights"]
    return found


@torch.no_grad()
def evaluate_reconstruction(state: TrainingState, store: Store, limit: int = 2000) -> dict[str, float]:
    """Measure the reconstruction of `limit` evenly spaced examples, or of all, without noise.

    validation_nll: nats a token (or pixel), teacher-forced; validation_accuracy: share of tokens (or pixels) whose most
    probable value is right. Raise ValueError for an empty store.
    """
    if not len(store):
        raise ValueError("there are no examples to validate on")
    state.modules.eval()
    nll, right, count = torch.zeros((), device=state.device), torch.zeros((), device=state.device), 0
    chosen = evenly_spaced(len(store), limit)
    lengths = getattr(store, "lengths", np.zeros(len(store), np.int64))[chosen]
    rows = chosen[np.argsort(lengths, kind="stable")]
    for part in np.array_split(rows, max(1, len(rows) // 256)):
        batch = make_batch(store, part, state.spec, state.device)
        part_nll, part_right, part_count = state.decoder.score(batch, state.encode(batch))
        nll, right, count = nll + part_nll, right + part_right, count + part_count
    state.modules.train()
    return {"validation_nll": float(nll) / count, "validation_accuracy": float(right) / count}
