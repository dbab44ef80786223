"""Measure one experiment in one process: training, its parts, sampling, memory."""

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
from benchmarks.parts import batch_sampler, part_times

WARMUP, WARMUP_ON_GPU = 5, 100
"""Iterations before the measurement. They allocate memory, choose kernels and create optimizer states, and on a GPU
capture the steps for every shape of batch."""


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
    """Time `iterations` iterations of training and the sampling of `samples` samples, greedily and at temperature 1.

    Returns:
        ms_per_iteration: the median, with ms_10th_percentile and ms_90th_percentile; ms_by_the_wall: the mean of all,
            by a clock that waits for the device.
        examples_per_second, tokens_per_second (end marks included): of step (1).
        parts: mean milliseconds and share of each part; on a GPU of eager steps, each waited for.
        sampling: samples per second, sampled_words: mean words per sample, both by method.
        peak_memory_mb, on a GPU peak_device_memory_mb.
    """
    state = TrainingState(settings, spec, device)
    batches = batch_sampler(state, store)
    results = _training(state, batches, iterations)
    if isinstance(store, TokenStore):
        steps = range(state.step - iterations, state.step)
        tokens = statistics.fmean(batches.reconstruction_batch(step)[1] for step in steps)
        rate = 1000 * tokens / results["ms_per_iteration"]
        results |= {"tokens_per_second": rate, "mean_length": float(store.lengths.mean())}
    parts = part_times(state, batches, iterations)
    results["parts"] = {part: {"ms": ms, "share": ms / sum(parts.values())} for part, ms in parts.items()}
    results["sampling"], results["sampled_words"] = {}, {}
    for name, temperature in (("greedy", 0.0), ("temperature 1", 1.0)):
        rate, length = _sampling(Model(state, vocabulary), samples, temperature)
        results["sampling"][name], results["sampled_words"][name] = rate, length
    unit = 1 if sys.platform == "darwin" else 1024
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    if device.type == "cuda":
        results["peak_device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return results


def _training(state: TrainingState, batches: BatchSampler, iterations: int) -> dict[str, Any]:
    """Time `iterations` iterations after the warm-up."""
    device, runner = state.device, make_step_runner(state, Parallel())
    run: StepRunner = runner or run_eagerly
    state.modules.train()
    with graph_stream(run):
        for _ in range(WARMUP_ON_GPU if device.type == "cuda" else WARMUP):
            iteration(state, batches, Parallel(), run)
        marks, started = [_mark(device)], time.perf_counter()
        for _ in range(iterations):
            iteration(state, batches, Parallel(), run)
            marks.append(_mark(device))
        times = _milliseconds(marks)
    total = time.perf_counter() - started
    median = statistics.median(times)
    deciles = statistics.quantiles([*times, median], n=10, method="inclusive")
    return {
        "ms_per_iteration": median,
        "ms_10th_percentile": deciles[0],
        "ms_90th_percentile": deciles[-1],
        "iterations": iterations,
        "ms_by_the_wall": 1000 * total / iterations,
        "examples_per_second": 1000 * state.settings.batch_size / median,
    }


def _sampling(model: Model, count: int, temperature: float) -> tuple[float, float]:
    """Return samples per second, as ids or pixels, and mean words per sample.

    The time depends on the words, and a model that has hardly been trained may write very long or empty sentences.
    """
    draw = model.generate_ids if model.kind == "text" else model.generate
    draw(min(count, 16), temperature=temperature)
    started = time.perf_counter()
    samples = draw(count, temperature=temperature)  # copied to main memory, so the device is done
    seconds = time.perf_counter() - started
    return count / seconds, statistics.fmean(map(len, samples)) if model.kind == "text" else 0.0


def _mark(device: torch.device) -> Any:
    """Return a point in time; on a GPU an event in its stream, so that nothing waits."""
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
