"""Measure one experiment on one process: training, its parts, sampling, memory."""

import resource
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import torch

from arae_core.algorithm import iteration
from arae_core.batches import Feed, Store, TextBatch, TokenStore
from arae_core.config import Settings
from arae_core.parallel import Parallel
from arae_core.sampling import Model
from arae_core.shapes import Shape
from arae_core.state import TrainingState
from arae_core.vocabulary import Vocabulary
from benchmarks.parts import PARTS, watched

WARMUP = 5
"""Iterations before the clock runs: first allocations, kernels chosen, optimizer states made."""
WATCHED_ITERATIONS = 20
"""Most iterations that the parts are taken from; they are timed apart, because on a GPU watching slows them."""


def measure(
    settings: Settings,
    store: Store,
    shape: Shape,
    vocabulary: Vocabulary | None,
    *,
    iterations: int,
    samples: int,
    device: torch.device,
) -> dict[str, Any]:
    """Train `iterations` iterations and draw `samples` samples, greedily and at temperature 1.

    ms_per_iteration is the median, with the 10th and 90th percentiles beside it; examples and tokens (end marks
    included) are those of step (1); parts are mean milliseconds and shares of an iteration.
    """
    state = TrainingState(settings, shape, device)
    feed = Feed(store, shape, settings.batch_size, settings.seed, device=device)
    state.modules.train()
    for _ in range(WARMUP):
        iteration(state, feed, Parallel())
    first, marks = state.step, [_mark(device)]
    for _ in range(iterations):
        iteration(state, feed, Parallel())
        marks.append(_mark(device))
    times = _milliseconds(marks)
    median = statistics.median(times)
    deciles = statistics.quantiles([*times, median], n=10, method="inclusive")
    results: dict[str, Any] = {
        "ms_per_iteration": median,
        "ms_10th_percentile": deciles[0],
        "ms_90th_percentile": deciles[-1],
        "iterations": iterations,
        "examples_per_second": 1000 * settings.batch_size / median,
    }
    if isinstance(store, TokenStore):
        tokens = statistics.fmean(_tokens(feed, step) for step in range(first, state.step))
        results |= {"tokens_per_second": 1000 * tokens / median, "mean_length": float(store.lengths.mean())}
    results["parts"] = _parts(state, feed, min(iterations, WATCHED_ITERATIONS))
    results["sampling"] = {
        name: _sampling(Model(state, vocabulary), samples, temperature)
        for name, temperature in (("greedy", 0.0), ("temperature 1", 1.0))
    }
    unit = 1 if sys.platform == "darwin" else 1024
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    if device.type == "cuda":
        results["peak_device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return results


def _parts(state: TrainingState, feed: Feed, iterations: int) -> dict[str, dict[str, float]]:
    with watched(state.device) as watch:
        for _ in range(iterations):
            with watch.part("other"):
                iteration(state, feed, Parallel())
    total = sum(watch.seconds.values())
    return {
        part: {"ms": 1000 * watch.seconds[part] / iterations, "share": watch.seconds[part] / total} for part in PARTS
    }


def _sampling(model: Model, count: int, temperature: float) -> float:
    """Samples a second, as ids or pixels."""
    draw = model.generate_ids if model.kind == "text" else model.generate
    draw(min(count, 16), temperature=temperature)
    started = time.perf_counter()
    draw(count, temperature=temperature)  # ends in main memory, so nothing is left to wait for
    return count / (time.perf_counter() - started)


def _tokens(feed: Feed, step: int) -> int:
    batch, targets = feed.reconstruct(step)
    assert isinstance(batch, TextBatch)
    return targets


def _mark(device: torch.device) -> Any:
    """A point in time; on a GPU in its own stream, so that nothing waits."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _milliseconds(marks: list[Any]) -> list[float]:
    if isinstance(marks[0], float):
        return [1000 * (after - before) for before, after in pairwise(marks)]
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in pairwise(marks)]
