"""The code space: norms, variances and neighbours (paper, section 6.1 and figure 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arae_core.evaluation import latent
from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.evaluation.plots import latent_figure
from pipelines.evaluation.tasks.task_types import TaskOptions, TaskResult

PROBED = 2000
"""Sentences of the split, and noise vectors, whose codes give the statistics."""
SENTENCES, NEIGHBOURS = 50, 100
"""Sentences whose codes are compared with those of their neighbours, and neighbours of each (paper, section 6.1)."""

Cosines = list[NDArray[np.float64]]


def latent_space(models: Sequence[EvaluatedModel], options: TaskOptions) -> TaskResult:
    """Measure norms and variances of codes, and the cosine similarity of the codes of similar sentences.

    Random pairs of sentences of the same lengths are the baseline (paper, section 6.1 and figure 2).
    """
    rows, cosines, curves = [], {}, {}
    for model in models:
        store = model.store(options.split)
        encoded = latent.code_statistics(model.model.encode_store(store, np.arange(min(len(store), PROBED))))
        generated = latent.code_statistics(model.model.sample_codes(PROBED, seed=options.seed))
        near, random, close = _cosines(model, options)
        row: dict[str, Any] = {
            "model": model.name,
            "norm c": encoded["norm"],
            "norm c~": generated["norm"],
            "variance c": encoded["variance"],
            "variance c~": generated["variance"],
            "sentences": len(near),
        }
        if near:
            row |= {"cosine, neighbours": float(np.mean(near)), "cosine, random": float(np.mean(random))}
            cosines[model.name] = (np.concatenate(near), np.concatenate(random))
        if any(len(each) for each in close):
            row[f"cosine, within {latent.CLOSE}"] = float(np.mean(np.concatenate(close)))
        rows.append(row)
        curves[model.name] = _training_curves(model, options.tracking_uri)
    return TaskResult(rows, latent_figure(curves, cosines))


def _cosines(model: EvaluatedModel, options: TaskOptions) -> tuple[Cosines, Cosines, Cosines]:
    """Return, for each sentence, its cosines with its neighbours, with random sentences and with close sentences."""
    store, encode = model.store(options.split), model.model.encode_store
    near, random, close = Cosines(), Cosines(), Cosines()
    for each in latent.neighbours(store, SENTENCES, NEIGHBOURS, seed=options.seed):
        code = encode(store, np.array([each.row]))[0]
        for found, others in ((near, each.near), (random, each.random), (close, each.close)):
            found.append(latent.cosine_similarities(code, encode(store, others)))
    return near, random, close


def _training_curves(model: EvaluatedModel, tracking_uri: str) -> Mapping[str, Any]:
    """Return norms and variances over training from MLflow; {} if the run or the server does not exist."""
    if not tracking_uri:
        return {}
    from mlflow.exceptions import MlflowException

    from pipelines.tracking.store import connect

    names = [f"probe_{figure}_{source}" for figure in ("norm", "variance") for source in ("real", "fake")]
    try:
        client = connect(tracking_uri)
        return {
            name: sorted((p.step, p.value) for p in client.get_metric_history(model.run_id, name)) for name in names
        }
    except (MlflowException, OSError):
        return {}
