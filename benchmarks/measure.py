"""Measure one experiment on one process: training, its parts, sampling, memory."""

import resource
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import torch

from arae_core.algorithm import StepRunner, iteration, run_eagerly
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import Store, TokenStore
from arae_core.data.data_spec import DataSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.model import Model
from arae_core.runtime.cuda_graphs import graph_stream, make_step_runner
from arae_core.runtime.parallel import Parallel
from arae_core.settings import Settings
from arae_core.training.state import TrainingState
from benchmarks.parts import PARTS, watched

WARMUP, WARMUP_ON_GPU = 5, 100
"""Iterations before the clock runs: first allocations, kernels chosen, optimizer states made; on a GPU besides, steps
captured at the shapes that batches have."""
WATCHED_ITERATIONS = 20
"""Most iterations that the parts are taken from; they are timed apart, because on a GPU watching slows them."""


def measure(
    settings: Settings,
    store: Store,
    spec: DataSpec,
    vocabulary: Vocabulary | None,
    *,
    iterations: int,
    samples: int,
    device: torch.device,
) -> dict[str, Any]:
    """Train `iterations` iterations and draw `samples` samples, greedily and at temperature 1.

    ms_per_iteration is the median, with the 10th and 90th percentiles beside it, and ms_by_the_wall the mean of all by
    a clock that waits for the device; examples and tokens (end marks included) are those of step (1); parts are mean
    milliseconds and shares of an iteration, on a GPU of one whose steps are called and waited for.
    """
    on_gpu = device.type == "cuda"
    state = TrainingState(settings, spec, device)
    padded_to = settings.longest if on_gpu else 0
    feed = BatchSampler(store, spec, settings.batch_size, settings.seed, device=device, padded_to=padded_to)
    perform: StepRunner = make_step_runner(state, Parallel()) or run_eagerly
    state.modules.train()
    with graph_stream(perform):
        for _ in range(WARMUP_ON_GPU if on_gpu else WARMUP):
            iteration(state, feed, Parallel(), perform)
        first, marks, started = state.step, [_mark(device)], time.perf_counter()
        for _ in range(iterations):
            iteration(state, feed, Parallel(), perform)
            marks.append(_mark(device))
        times = _milliseconds(marks)
    whole = time.perf_counter() - started
    median = statistics.median(times)
    deciles = statistics.quantiles([*times, median], n=10, method="inclusive")
    results: dict[str, Any] = {
        "ms_per_iteration": median,
        "ms_10th_percentile": deciles[0],
        "ms_90th_percentile": deciles[-1],
        "iterations": iterations,
        "ms_by_the_wall": 1000 * whole / iterations,
        "examples_per_second": 1000 * settings.batch_size / median,
    }
    if isinstance(store, TokenStore):
        tokens = statistics.fmean(_tokens(feed, step) for step in range(first, state.step))
        results |= {"tokens_per_second": 1000 * tokens / median, "mean_length": float(store.lengths.mean())}
    results["parts"] = _parts(state, feed, min(iterations, WATCHED_ITERATIONS))
    results["sampling"], results["sampled_words"] = {}, {}
    for name, temperature in (("greedy", 0.0), ("temperature 1", 1.0)):
        rate, length = _sampling(Model(state, vocabulary), samples, temperature)
        results["sampling"][name], results["sampled_words"][name] = rate, length
    unit = 1 if sys.platform == "darwin" else 1024
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    if device.type == "cuda":
        results["peak_device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return results


def _parts(state: TrainingState, feed: BatchSampler, iterations: int) -> dict[str, dict[str, float]]:
    with watched(state.device) as watch:
        for _ in range(iterations):
            with watch.part("other"):
                iteration(state, feed, Parallel())
    total = sum(watch.seconds.values())
    return {
        part: {"ms": 1000 * watch.seconds[part] / iterations, "share": watch.seconds[part] / total} for part in PARTS
    }


def _sampling(model: Model, count: int, temperature: float) -> tuple[float, float]:
    """Samples a second, as ids or pixels, and words of a sample: what a sentence takes is what its words take, and a
    model that has hardly been trained writes them as long as they may be, or empty."""
    draw = model.generate_ids if model.kind == "text" else model.generate
    draw(min(count, 16), temperature=temperature)
    started = time.perf_counter()
    drawn = draw(count, temperature=temperature)  # ends in main memory, so nothing is left to wait for
    seconds = time.perf_counter() - started
    return count / seconds, statistics.fmean(map(len, drawn)) if model.kind == "text" else 0.0


def _tokens(feed: BatchSampler, step: int) -> float:
    return feed.reconstruct(step)[1]


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
