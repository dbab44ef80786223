"""Sentences said again with another attribute (paper, section 6.2, table 4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arae_core.evaluation.generation import SentenceScorer
from pipelines.evaluation import published
from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.plots import transfer_figure
from pipelines.evaluation.references import References, read_references
from pipelines.evaluation.tasks.task_types import Asked, Outcome, of_real_text
from pipelines.evaluation.transfer import AttributeClassifier, GrammarClassifier, score_transfer

AVERAGED = 5000
"""Training sentences of a class, at most, that its mean code is of."""


def attribute_transfer(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Sentences said again as of the next class: accuracy and BLEU (paper, section 6.2, table 4).

    The sentences are the split's, or those of the file with references; beside the models stand a copy of the input and
    the other systems whose outputs there are. A model without classes moves codes by the difference of the classes'
    means. All are judged by the same classifier and count-based language model, of the first labelled model's data;
    reverse perplexity by the other half of the sentences, for what was copied would cover its own.
    """
    first = _labelled(subjects)
    classes, given = first.model.classes, sentences_to_rewrite(subjects, asked)
    classifier = classifier_of(first, asked)
    wanted = [classes[(classes.index(label) + 1) % len(classes)] for label in given.own]
    right = sum(a == b for a, b in zip(classifier.predict(given.sentences), given.own, strict=True))
    text = [f"the classifier is right on {100 * right / len(wanted):.1f} % of the real sentences themselves"]
    written = {"copy of the input": given.sentences, **given.outputs}
    for subject in subjects:
        if subject.model.classes and subject.model.classes != classes:
            raise ValueError(f"{subject.name} knows other classes than {first.name}: evaluate them one by one")
        if subject.model.classes:
            written[subject.name] = subject.model.transfer(given.sentences, wanted, contrast=asked.contrast)
        else:
            written[subject.name] = _shifted(subject, first, given, wanted)
        shown = list(zip(wanted, given.sentences, written[subject.name], strict=True))[:6]
        text += [f"{subject.name}, {want}: {source}  ->  {output}" for want, source, output in shown]
    vocabulary, train = first.model.vocabulary, first.store("train")
    assert vocabulary is not None
    sources = vocabulary.encode(given.sentences)
    halves = [SentenceScorer(train, sources[1 - half :: 2], len(vocabulary)) for half in (0, 1)]
    rows: list[dict[str, Any]] = []
    for name, outputs in written.items():
        figures = score_transfer(classifier, given.sentences, outputs, wanted, given.rewritten)
        said = vocabulary.encode(outputs)
        scored = [scorer.score(said[half::2]) for half, scorer in enumerate(halves)]
        for way in ("forward", "reverse"):
            figures[way] = float(np.exp(np.mean([np.log(half[f"{way}_perplexity"]) for half in scored])))
        rows.append({"model": name} | {key.removeprefix("transfer_"): value for key, value in figures.items()})
    rows += [dict(row) for row in published.TRANSFER if of_real_text(subjects)]
    return Outcome(rows, transfer_figure(rows, [subject.name for subject in subjects]), text)


def _shifted(subject: Subject, labelled: Subject, given: References, wanted: Sequence[str]) -> list[str]:
    """The sentences by latent arithmetic: each code moved from the mean code of its class to that of the one wanted.

    The means are those of sentences on which `labelled` was trained.
    """
    train, classes, vocabulary = labelled.store("train"), labelled.model.classes, labelled.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    rows = [np.flatnonzero(train.labels == y)[:AVERAGED] for y in range(len(classes))]
    means = [subject.model.encode(vocabulary.decode(train.rows(some))).mean(0) for some in rows]
    written = [""] * len(wanted)
    for pair in sorted(set(zip(given.own, wanted, strict=True))):
        places = [i for i, own in enumerate(zip(given.own, wanted, strict=True)) if own == pair]
        offset = means[classes.index(pair[1])] - means[classes.index(pair[0])]
        for i, sentence in zip(places, subject.model.shift([given.sentences[i] for i in places], offset), strict=True):
            written[i] = sentence
    return written


def classifier_of(subject: Subject, asked: Asked) -> AttributeClassifier | GrammarClassifier:
    """Of the classes that the subject knows: exact for the built-in grammar, else of its training sentences."""
    if subject.experiment.data.source == "grammar":
        return GrammarClassifier(subject.experiment.data.label)
    train, vocabulary = subject.store("train"), subject.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    asked.say(f"a classifier of {len(train):,} real sentences")
    real = vocabulary.decode(train.rows(range(len(train))))
    return AttributeClassifier(real, [subject.model.classes[y] for y in train.labels])


def _labelled(subjects: Sequence[Subject]) -> Subject:
    return next(subject for subject in subjects if subject.model.classes)


def sentences_to_rewrite(subjects: Sequence[Subject], asked: Asked) -> References:
    """Those of the file with references, or the split's. Raises ValueError for files that cannot be used."""
    subject = _labelled(subjects)
    if asked.references is not None:
        cache = asked.storage / "data" / ".cache"
        return read_references(asked.references, asked.outputs, subject.model.classes, cache)
    held, vocabulary = subject.store(asked.split), subject.model.vocabulary
    assert held.labels is not None and vocabulary is not None
    own = [subject.model.classes[y] for y in held.labels]
    return References(vocabulary.decode(held.rows(range(len(held)))), own, [], {})
