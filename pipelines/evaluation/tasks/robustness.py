"""What is lost of sentences whose words are swapped (paper, section 6.1, table 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arae_core.data.batches import TokenStore
from arae_core.evaluation import robustness
from pipelines.evaluation import published
from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.plots import swaps_figure
from pipelines.evaluation.tasks.task_types import Asked, Outcome, of_real_text


def swaps(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Nats of sentences from the codes of themselves with k pairs of words swapped (paper, section 6.1, table 3)."""
    rows: list[dict[str, Any]] = []
    text: list[str] = []
    for subject in subjects:
        store = subject.store(asked.split)
        nats = {}
        for k in robustness.SWAPS:
            mixed = robustness.swapped(store, k, asked.seed)
            nats[f"k={k}"] = float(robustness.nats_given(subject.model.state, store, mixed).mean())
        rows.append({"model": subject.name, **nats})
        vocabulary = subject.model.vocabulary
        assert vocabulary is not None
        some = TokenStore.from_rows(store.rows(np.arange(min(3, len(store)))))
        for k in (0, 2, 4):
            read = vocabulary.decode(robustness.swapped(some, k, asked.seed).rows(range(len(some))))
            back = subject.model.reconstruct(read)
            text += [f"{subject.name}, k={k}: {a}  ->  {b}" for a, b in zip(read, back, strict=True)]
    for name, values in published.ROBUSTNESS.items() if of_real_text(subjects) else ():
        rows.append({"model": name, **{f"k={k}": v for k, v in zip(robustness.SWAPS, values, strict=True)}})
    return Outcome(rows, swaps_figure(rows), text)
