"""The code space: norms, variances, neighbours (paper, section 6.1 and figure 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import TokenStore
from arae_core.evaluation import latent
from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.plots import latent_figure
from pipelines.evaluation.tasks.task_types import Asked, Outcome

PROBED = 2000
"""Sentences of the split, and draws of noise, whose codes are looked at."""
SENTENCES, NEIGHBOURS = 50, 100
"""Sentences of which the codes are compared with their neighbours', and neighbours of each (paper, section 6.1)."""


def latent_space(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Norms and variances of codes, and how near the codes of near sentences are (paper, section 6.1 and figure 2),
    beside those of random pairs of the same lengths."""
    rows, near_all, curves = [], {}, {}
    for subject in subjects:
        store = subject.store(asked.split)
        real = _codes(subject, store, np.arange(min(len(store), PROBED)))
        fake = subject.model.sample_codes(PROBED, seed=asked.seed)
        found = latent.neighbours(store, SENTENCES, NEIGHBOURS, seed=asked.seed)
        near, far, close = (list[NDArray[np.float64]]() for _ in range(3))
        for each in found:
            code = _codes(subject, store, np.array([each.row]))[0]
            for kind, others in ((near, each.near), (far, each.random), (close, each.close)):
                kind.append(latent.cosine_similarities(code, _codes(subject, store, others)))
        statistics = latent.code_statistics(real), latent.code_statistics(fake)
        figures: dict[str, Any] = {"model": subject.name, "norm c": statistics[0]["norm"]}
        figures |= {"norm c~": statistics[1]["norm"], "variance c": statistics[0]["variance"]}
        figures |= {"variance c~": statistics[1]["variance"], "sentences": len(found)}
        if found:
            figures |= {"cosine, neighbours": float(np.mean(near)), "cosine, random": float(np.mean(far))}
            if some := [cosine for cosines in close for cosine in cosines]:
                figures[f"cosine, within {latent.CLOSE}"] = float(np.mean(some))
            near_all[subject.name] = (np.concatenate(near), np.concatenate(far))
        rows.append(figures)
        curves[subject.name] = _curves(subject, asked.tracking_uri)
    return Outcome(rows, latent_figure(curves, near_all))


def _codes(subject: Subject, store: TokenStore, rows: Any) -> Any:
    return subject.model.encode_store(store, rows)


def _curves(subject: Subject, tracking_uri: str) -> Mapping[str, Any]:
    """Norms and variances over training, from MLflow; nothing where the run is not there, or there is no MLflow."""
    if not tracking_uri:
        return {}
    from mlflow.exceptions import MlflowException

    from pipelines.tracking.store import connect

    names = [f"probe_{what}_{whose}" for what in ("norm", "variance") for whose in ("real", "fake")]
    try:
        client = connect(tracking_uri)
        return {
            name: sorted((p.step, p.value) for p in client.get_metric_history(subject.run_id, name)) for name in names
        }
    except (MlflowException, OSError):
        return {}
