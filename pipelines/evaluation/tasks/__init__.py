"""The paper's experiments on trained models, one function each: models in, rows of a table and a figure out."""

from collections.abc import Callable, Sequence

from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.evaluation.tasks.attribute_transfer import attribute_transfer, load_sources, make_classifier
from pipelines.evaluation.tasks.code_space import latent_space
from pipelines.evaluation.tasks.perplexity import sample_perplexity
from pipelines.evaluation.tasks.robustness import word_swaps
from pipelines.evaluation.tasks.task_types import TaskOptions, TaskResult

__all__ = ["TASKS", "TaskOptions", "TaskResult", "load_sources", "make_classifier", "why_unsupported"]


def why_unsupported(task: str, models: Sequence[EvaluatedModel]) -> str | None:
    """Return why the models cannot take part in the task, or None if they can."""
    if task == "transfer" and not any(model.model.classes for model in models):
        return (
            "no model has an attribute; train one with --data.label COLUMN, for example --config grammar-sentiment "
            "(models without an attribute can be compared with it)"
        )
    return None


TASKS: dict[str, Callable[[Sequence[EvaluatedModel], TaskOptions], TaskResult]] = {
    "perplexity": sample_perplexity,
    "latent": latent_space,
    "robustness": word_swaps,
    "transfer": attribute_transfer,
}
