"""Time of each part of an iteration: the functions of the algorithm, timed in place."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

from arae_core import algorithm
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import Store
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState

PARTS = ("feeding", "reconstruct", "encode", "critic steps", "confuse", "optimizer", "other")

Timed = tuple[Any, str, str]
"""(owner of a function, its name, the part that its time is charged to)."""
TIMED: tuple[Timed, ...] = (
    (BatchSampler, "reconstruction_batch", "feeding"),
    (BatchSampler, "critic_batches", "feeding"),
    (BatchSampler, "adversarial_batch", "feeding"),
    (algorithm, "reconstruction_step", "reconstruct"),
    (algorithm, "critic_step", "critic steps"),
    (TrainingState, "encode_mixed", "encode"),
    (algorithm, "encoder_adversarial_step", "confuse"),
    (algorithm, "generator_step", "confuse"),
    (nn.utils, "clip_grad_norm_", "optimizer"),
    (torch.optim.SGD, "step", "optimizer"),
    (torch.optim.Adam, "step", "optimizer"),
)
MOST_TIMED_ITERATIONS = 20
"""Upper bound on the iterations that the parts are timed in. Timing slows a GPU down, so they are timed separately."""


class Stopwatch:
    """Seconds and calls of each part. Time inside a nested part is charged to that part alone, the rest to "other"."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._open, self._since = ["other"], self._now()

    @property
    def current(self) -> str:
        """The innermost part that is running."""
        return self._open[-1]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge the time within the block to a part."""
        self._charge()
        self.calls[name] += 1
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        now = self._now()
        self.seconds[self.current] += now - self._since
        self._since = now

    def _now(self) -> float:
        if self.device.type == "cuda":  # kernels run asynchronously; their time belongs to the part that launched them
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@contextmanager
def stopwatch(device: torch.device, timed: Sequence[Timed] = TIMED) -> Iterator[Stopwatch]:
    """Time the functions in `timed` within the block."""
    watch = Stopwatch(device)
    originals = [(owner, name, vars(owner)[name]) for owner, name, _ in timed]
    for (owner, name, part), (_, _, original) in zip(timed, originals, strict=True):
        setattr(owner, name, _with_timing(original, watch, part))
    try:
        yield watch
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _with_timing(function: Callable[..., Any], watch: Stopwatch, part: str) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        with watch.part(part):
            return function(*arguments, **named)

    return wrapper


def batch_sampler(state: TrainingState, store: Store) -> BatchSampler:
    """Return the sampler that training uses: on a GPU it pads every batch to the longest sentence allowed."""
    settings = state.settings
    longest = settings.longest if state.device.type == "cuda" else 0
    return BatchSampler(store, state.spec, settings.batch_size, settings.seed, device=state.device, padded_to=longest)


def part_times(state: TrainingState, batches: BatchSampler, iterations: int) -> dict[str, float]:
    """Return the milliseconds per iteration of each of PARTS, with the steps run eagerly.

    Runs `iterations` iterations, at most MOST_TIMED_ITERATIONS.
    """
    iterations = min(iterations, MOST_TIMED_ITERATIONS)
    with stopwatch(state.device) as watch:
        for _ in range(iterations):
            with watch.part("other"):
                algorithm.iteration(state, batches, Parallel())
    return {part: 1000 * watch.seconds[part] / iterations for part in PARTS}
