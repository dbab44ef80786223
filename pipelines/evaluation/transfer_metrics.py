"""Metrics of attribute transfer: is the attribute the requested one, and is the content kept (paper, section 6.2).

Accuracy is measured by a classifier of real training sentences, which no scored model has been trained against. BLEU
is sacrebleu's corpus BLEU on the tokens as given. All metrics are percentages.
"""

import math
from collections.abc import Sequence
from typing import Any

from pipelines.corpora.grammar import attributes


def bleu(outputs: Sequence[str], references: Sequence[Sequence[str | None]], *, sentence_level: bool = False) -> float:
    """Return BLEU-4 of outputs[N] against references[R][N], in [0, 100] (Papineni et al. 2002).

    Tokens are separated by spaces. A reference that is None or blank is left out. sentence_level: use sacrebleu's
    effective order, for means over single sentences; otherwise a sentence of fewer than four tokens, which has no
    4-gram, scores 0.
    """
    from sacrebleu.metrics.bleu import BLEU

    # force: do not warn that the text looks tokenized
    scorer = BLEU(tokenize="none", force=True, effective_order=sentence_level)
    present = [[text if text and text.strip() else None for text in texts] for texts in references]
    return float(scorer.corpus_score(list(outputs), present).score)  # type: ignore[arg-type]


class AttributeClassifier:
    """Logistic regression on TF-IDF of words and bigrams: sentence -> class."""

    def __init__(self, sentences: Sequence[str], labels: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]

        min_count = 2 if len(sentences) > 1000 else 1
        features = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), min_df=min_count, sublinear_tf=True)
        # balanced: accuracy must mean the same for a frequent and for a rare class
        self._model: Any = make_pipeline(features, LogisticRegression(C=10, max_iter=1000, class_weight="balanced"))
        self._model.fit(list(sentences), list(labels))

    def predict(self, sentences: Sequence[str]) -> list[str]:
        """Return the class of each sentence."""
        return [str(label) for label in self._model.predict(list(sentences))] if sentences else []


class GrammarClassifier:
    """Exact classifier for sentences of the built-in grammar; "" for a sentence that is not in the language."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    def predict(self, sentences: Sequence[str]) -> list[str]:
        """Return the class of each sentence."""
        found = [attributes(sentence) for sentence in sentences]
        return [getattr(each, self.attribute) if each else "" for each in found]


def score_transfer(
    classifier: AttributeClassifier | GrammarClassifier,
    sources: Sequence[str],
    outputs: Sequence[str],
    targets: Sequence[str],
    references: Sequence[Sequence[str | None]] = (),
) -> dict[str, float]:
    """Return the metrics of outputs[N], which rewrite sources[N] as the classes targets[N].

    transfer_accuracy    share of the outputs that the classifier assigns to the target class
    transfer_self_bleu   BLEU with the source: how much of the content is kept
    transfer_score       geometric mean of the two; low both for a copy of the source and for an unrelated sentence
    transfer_bleu        BLEU with human rewritings, if references[R][N] are given
    transfer_g2          geometric mean of accuracy and transfer_bleu
    """
    assert len(sources) == len(outputs) == len(targets) > 0
    correct = sum(a == b for a, b in zip(classifier.predict(outputs), targets, strict=True))
    accuracy, kept = 100 * correct / len(outputs), bleu(outputs, [sources])
    metrics = {
        "transfer_accuracy": accuracy,
        "transfer_self_bleu": kept,
        "transfer_score": math.sqrt(accuracy * kept),
    }
    if references:
        metrics["transfer_bleu"] = bleu(outputs, references)
        metrics["transfer_g2"] = math.sqrt(accuracy * metrics["transfer_bleu"])
    return metrics
