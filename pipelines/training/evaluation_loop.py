"""The train-evaluate-save loop that workers, classifiers and benchmarks share."""

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from arae_core.training.loop import Report


def train_and_evaluate(
    reports: "Iterable[Report]",
    *,
    every: int,
    end: int,
    log: "Callable[[Report], object]",
    evaluate: "Callable[[Report], object]",
    between: "Callable[[Report], object] | None" = None,
    seconds: float = math.inf,
) -> None:
    """Train by drawing reports; log each of them, and evaluate at multiples of `every`, at `end`, and at the deadline.

    reports: of `arae_core.training.loop.train` or `arae_core.classification.train_classifier`. evaluate: may also save
    the model and report it. between: called after a report without an evaluation. seconds: training stops at the first
    report after this time.

    Errors of training, such as FloatingPointError for a loss that is not finite, pass through.
    """
    started = time.perf_counter()
    for report in reports:
        late = time.perf_counter() - started >= seconds
        log(report)
        if report.step % every == 0 or report.step >= end or late:
            evaluate(report)
        elif between is not None:
            between(report)
        if late:
            return


class BestWeights:
    """Weights of the best evaluation so far, copied to main memory: a shared device may have none to spare."""

    def __init__(self, better: Callable[[float, float], bool]) -> None:
        """better(new, best): True if the new score is better than the best one."""
        self._better = better
        self.score, self.step = math.nan, 0
        self.weights: dict[str, Tensor] = {}

    def update(self, step: int, score: float, weights: Callable[[], "dict[str, Any]"]) -> bool:
        """Keep the weights of this evaluation if it is the first or the best one; return True if it is."""
        if self.weights and not self._better(score, self.score):
            return False
        self.score, self.step = score, step
        self.weights = {name: value.to("cpu", copy=True) for name, value in weights().items()}
        return True
