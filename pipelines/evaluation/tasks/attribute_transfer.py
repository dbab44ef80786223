"""Attribute transfer: sentences rewritten with another class (paper, section 6.2, table 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arae_core.evaluation.generation import SentenceScorer
from pipelines.evaluation import published
from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.evaluation.plots import transfer_figure
from pipelines.evaluation.references import References, read_references
from pipelines.evaluation.tasks.task_types import TaskOptions, TaskResult, any_real_text
from pipelines.evaluation.transfer_metrics import AttributeClassifier, GrammarClassifier, score_transfer

MAX_AVERAGED = 5000
"""Training sentences of a class, at most, that its mean code is computed from."""
EXAMPLES = 6
"""Rewritten sentences shown for each model."""


def attribute_transfer(models: Sequence[EvaluatedModel], options: TaskOptions) -> TaskResult:
    """Rewrite sentences as the next class, and measure accuracy and BLEU (paper, section 6.2, table 4).

    The sentences are those of the references file, or of the split. A copy of the input and the outputs of other
    systems are scored as well. A model without classes shifts codes by the difference of the classes' mean codes. All
    are scored by the same classifier and count-based language model, from the data of the first labelled model.
    """
    first = _first_labelled(models)
    classes, sources = first.model.classes, load_sources(models, options)
    targets = [classes[(classes.index(label) + 1) % len(classes)] for label in sources.labels]
    outputs = {"copy of the input": sources.sentences, **sources.outputs}
    for model in models:
        outputs[model.name] = _transferred(model, first, sources, targets, options.contrast)
    classifier = make_classifier(first, options)
    predicted = classifier.predict(sources.sentences)
    correct = sum(a == b for a, b in zip(predicted, sources.labels, strict=True))
    text = [f"accuracy of the classifier on the real sentences: {100 * correct / len(targets):.1f} %"]
    for model in models:
        shown = list(zip(targets, sources.sentences, outputs[model.name], strict=True))[:EXAMPLES]
        text += [f"{model.name}, {target}: {source}  ->  {output}" for target, source, output in shown]
    rows: list[dict[str, Any]] = []
    fluency = _perplexities(first, sources.sentences, outputs)
    for name, written in outputs.items():
        metrics = score_transfer(classifier, sources.sentences, written, targets, sources.references) | fluency[name]
        rows.append({"model": name} | {key.removeprefix("transfer_"): value for key, value in metrics.items()})
    if any_real_text(models):
        rows += [dict(row) for row in published.TRANSFER]
    return TaskResult(rows, transfer_figure(rows, [model.name for model in models]), text)


def _transferred(
    model: EvaluatedModel,
    labelled: EvaluatedModel,
    sources: References,
    targets: Sequence[str],
    contrast: float | None,
) -> list[str]:
    """Return the model's rewriting of each sentence. Raise ValueError if it has other classes than `labelled`."""
    if not model.model.classes:
        return _shifted(model, labelled, sources, targets)
    if model.model.classes != labelled.model.classes:
        raise ValueError(f"--model: {model.name} and {labelled.name} have different classes; evaluate them separately")
    return model.model.transfer(sources.sentences, targets, contrast=contrast)


def _shifted(model: EvaluatedModel, labelled: EvaluatedModel, sources: References, targets: Sequence[str]) -> list[str]:
    """Rewrite by latent arithmetic: shift each code from the mean code of its class to that of its target.

    The means are computed from the training sentences of `labelled`.
    """
    train, classes, vocabulary = labelled.store("train"), labelled.model.classes, labelled.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    rows = [np.flatnonzero(train.labels == y)[:MAX_AVERAGED] for y in range(len(classes))]
    means = [model.model.encode(vocabulary.decode(train.rows(subset))).mean(0) for subset in rows]
    pairs = list(zip(sources.labels, targets, strict=True))
    outputs = [""] * len(pairs)
    for pair in sorted(set(pairs)):
        places = [i for i, each in enumerate(pairs) if each == pair]
        offset = means[classes.index(pair[1])] - means[classes.index(pair[0])]
        sentences = [sources.sentences[i] for i in places]
        for i, output in zip(places, model.model.shift(sentences, offset), strict=True):
            outputs[i] = output
    return outputs


def _perplexities(
    model: EvaluatedModel, sentences: Sequence[str], outputs: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return {"forward", "reverse"} perplexity of each system's outputs, by count-based language models.

    The outputs of one half of the sentences are scored against the other half: a copy would cover its own sources.
    """
    train, vocabulary = model.store("train"), model.model.vocabulary
    assert vocabulary is not None
    ids = vocabulary.encode(sentences)
    scorers = [SentenceScorer(train, ids[1 - half :: 2], len(vocabulary)) for half in (0, 1)]
    perplexities = {}
    for name, written in outputs.items():
        encoded = vocabulary.encode(written)
        scores = [scorer.score(encoded[half::2]) for half, scorer in enumerate(scorers)]
        perplexities[name] = {
            way: float(np.exp(np.mean([np.log(score[f"{way}_perplexity"]) for score in scores])))
            for way in ("forward", "reverse")
        }
    return perplexities


def make_classifier(model: EvaluatedModel, options: TaskOptions) -> AttributeClassifier | GrammarClassifier:
    """Return a classifier of the model's classes: exact for the built-in grammar, else trained on its sentences."""
    if model.experiment.data.source == "grammar":
        return GrammarClassifier(model.experiment.data.label)
    train, vocabulary = model.store("train"), model.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    options.log(f"training a classifier of {len(train):,} real sentences")
    sentences = vocabulary.decode(train.rows(range(len(train))))
    return AttributeClassifier(sentences, [model.model.classes[y] for y in train.labels])


def _first_labelled(models: Sequence[EvaluatedModel]) -> EvaluatedModel:
    return next(model for model in models if model.model.classes)


def load_sources(models: Sequence[EvaluatedModel], options: TaskOptions) -> References:
    """Return the sentences to rewrite: those of the references file, or of the split.

    Raise ValueError for files that `read_references` refuses.
    """
    model = _first_labelled(models)
    if options.references is not None:
        return read_references(options.references, options.outputs, model.model.classes)
    held_out, vocabulary = model.store(options.split), model.model.vocabulary
    assert held_out.labels is not None and vocabulary is not None
    labels = [model.model.classes[y] for y in held_out.labels]
    return References(vocabulary.decode(held_out.rows(range(len(held_out)))), labels, [], {})
