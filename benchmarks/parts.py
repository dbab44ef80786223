"""Where the time of an iteration goes: the algorithm's own functions, timed in place."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

from arae_core import algorithm
from arae_core.codecs.lstm import TextEncoder
from arae_core.codecs.mlp import ImageEncoder
from arae_core.data.batch_sampler import BatchSampler

PARTS = ("feeding", "reconstruct", "encode", "critic steps", "confuse", "optimizer", "other")

WATCHED: tuple[tuple[Any, str, str], ...] = (
    (BatchSampler, "reconstruct", "feeding"),
    (BatchSampler, "criticise", "feeding"),
    (BatchSampler, "confuse", "feeding"),
    (algorithm, "reconstruct", "reconstruct"),
    (algorithm, "criticise", "critic steps"),
    (TextEncoder, "encode_mixed", "encode"),
    (ImageEncoder, "encode_mixed", "encode"),
    (algorithm, "confuse_encoder", "confuse"),
    (algorithm, "confuse_generator", "confuse"),
    (nn.utils, "clip_grad_norm_", "optimizer"),
    (torch.optim.SGD, "step", "optimizer"),
    (torch.optim.Adam, "step", "optimizer"),
)
"""(where it is, its name, the part its time counts for)."""


class Stopwatch:
    """Seconds and calls by part. A part inside another counts for itself alone; what is in none counts as other."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._open, self._since = ["other"], self._now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
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
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def _now(self) -> float:
        if self.device.type == "cuda":  # the device works behind our back: its work belongs to the part that asked
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@contextmanager
def watched(device: torch.device, what: Sequence[tuple[Any, str, str]] = WATCHED) -> Iterator[Stopwatch]:
    """Within the block, what `what` names is timed."""
    watch = Stopwatch(device)
    originals = [(owner, name, vars(owner)[name]) for owner, name, _ in what]
    for (owner, name, part), (_, _, original) in zip(what, originals, strict=True):
        setattr(owner, name, _timed(original, watch, part))
    try:
        yield watch
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _timed(function: Callable[..., Any], watch: Stopwatch, part: str) -> Callable[..., Any]:
    @wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        with watch.part(part):
            return function(*arguments, **named)

    return timed
