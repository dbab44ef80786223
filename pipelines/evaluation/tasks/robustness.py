"""Robustness of the code to word swaps (paper, section 6.1, table 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arae_core.data.batches import TokenStore
from arae_core.evaluation import robustness
from pipelines.evaluation import published
from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.evaluation.plots import swaps_figure
from pipelines.evaluation.tasks.task_types import TaskOptions, TaskResult, any_real_text

EXAMPLES = 3
"""Sentences whose reconstructions are shown."""


def word_swaps(models: Sequence[EvaluatedModel], options: TaskOptions) -> TaskResult:
    """Measure the loss of sentences, in nats, decoded from the code of the same sentence after k word swaps.

    Paper, section 6.1, table 3.
    """
    rows: list[dict[str, Any]] = []
    text: list[str] = []
    for model in models:
        store = model.store(options.split)
        nats = {}
        for k in robustness.SWAPS:
            swapped = robustness.swapped(store, k, options.seed)
            nats[f"k={k}"] = float(robustness.nats_given(model.model.state, store, swapped).mean())
        rows.append({"model": model.name, **nats})
        text += _examples(model, store, options.seed)
    if any_real_text(models):
        for name, values in published.ROBUSTNESS.items():
            rows.append({"model": name, **{f"k={k}": v for k, v in zip(robustness.SWAPS, values, strict=True)}})
    return TaskResult(rows, swaps_figure(rows), text)


def _examples(model: EvaluatedModel, store: TokenStore, seed: int) -> list[str]:
    """Return lines "model, k: swapped sentence -> reconstruction"."""
    vocabulary = model.model.vocabulary
    assert vocabulary is not None
    first = TokenStore.from_rows(store.rows(np.arange(min(EXAMPLES, len(store)))))
    lines = []
    for k in (0, 2, 4):
        swapped = vocabulary.decode(robustness.swapped(first, k, seed).rows(range(len(first))))
        outputs = model.model.reconstruct(swapped)
        lines += [f"{model.name}, k={k}: {a}  ->  {b}" for a, b in zip(swapped, outputs, strict=True)]
    return lines
