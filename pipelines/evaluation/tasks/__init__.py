"""The paper's experiments on trained models, a function each: subjects in, rows of a table and a picture out.

All take the split that is asked for: validation for any choice, test for a report.
"""

from collections.abc import Callable, Sequence

from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.tasks.code_space import latent_space
from pipelines.evaluation.tasks.perplexity import sample_perplexity
from pipelines.evaluation.tasks.robustness import swaps
from pipelines.evaluation.tasks.task_types import Asked, Outcome
from pipelines.evaluation.tasks.transfer import attribute_transfer, classifier_of, sentences_to_rewrite

__all__ = ["TASKS", "Asked", "Outcome", "classifier_of", "sentences_to_rewrite", "supported"]


def supported(task: str, subjects: Sequence[Subject]) -> str | None:
    """Why the models cannot take part in the task, or None where they can."""
    if task == "transfer" and not any(subject.model.classes for subject in subjects):
        return (
            "no model has an attribute; train one with --data.label COLUMN, for example --config grammar-sentiment "
            "(a model without one can stand beside it)"
        )
    return None


TASKS: dict[str, Callable[[Sequence[Subject], Asked], Outcome]] = {
    "perplexity": sample_perplexity,
    "latent": latent_space,
    "robustness": swaps,
    "transfer": attribute_transfer,
}
