"""Table of classifiers to train: which combinations are possible, and counts of the labelled examples in words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.experiment.settings import Classification

METHODS = ("supervised", "ae", "arae")
"""The labelled examples alone; with a plain autoencoder of all sentences; with an adversarially regularized one."""


def check_table(experiment: "Classification", labels: Sequence[int], methods: Sequence[str], seeds: int) -> None:
    """Raise ValueError, naming the option, unless every classifier of the table can be trained."""
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"--methods must be among {', '.join(METHODS)}, got {method!r}")
    if not methods or len(set(methods)) != len(methods):
        raise ValueError(f"--methods must be one or more of {', '.join(METHODS)}, each once, got {','.join(methods)!r}")
    if not labels or min(labels) < 0 or len(set(labels)) != len(labels):
        raise ValueError(f"--labels must be different whole numbers >= 0, got {','.join(map(str, labels))!r}")
    if not 1 <= seeds <= 100:
        raise ValueError(f"--seeds must be from 1 to 100, got {seeds}")
    if experiment.seed + seeds > 2**32:
        raise ValueError(f"seed must be <= {2**32 - seeds} with --seeds {seeds}, got {experiment.seed}")
    if "arae" in methods and not experiment.adversarial:
        raise ValueError("critic.objective must not be none for method arae; --methods supervised,ae leaves it out")


def check_start(experiment: "Classification", sentences: int) -> None:
    """Raise ValueError if the autoencoder, trained on `sentences` sentences, leaves no iteration to the labels."""
    from pipelines.classification.classifier_trial import steps_of

    begin, end = steps_of(experiment, experiment.head, sentences)
    if begin >= end:
        raise ValueError(
            f"head.start must leave at least one of the {end} iterations to the labels, got {experiment.head.start}; "
            "lower it, or train longer"
        )


def label_counts(labels: Sequence[int], classes: Mapping[str, int]) -> list[int]:
    """Return the numbers of labels, with 0 replaced by the largest that has equally many of each class.

    classes: training examples by class. Raise ValueError for fewer labels than classes, and for more than there are.
    """
    most = len(classes) * min(classes.values())
    for count in labels:
        if count and not len(classes) <= count <= most:
            raise ValueError(
                f"--labels must be from {len(classes)} to {most}, as many of each of {', '.join(classes)}; got {count}"
            )
    return [count or most for count in labels]


def describe_split(counts: Mapping[str, Any]) -> str:
    """Return the counts of a split of labelled examples in words."""
    classes = ", ".join(f"{count:,} {name}" for name, count in counts["classes"].items())
    reasons = {
        "without a class or a text": counts["left_out"],
        "repeated": counts["repeated"],
        "in another split": counts["in_other_split"],
    }
    shown = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    left_out = f" (left out: {shown})" if shown else ""
    shortened = f"; {counts['shortened']:,} cut to `longest` tokens" if counts["shortened"] else ""
    return f"{sum(counts['classes'].values()):,} examples: {classes}{left_out}{shortened}"
