"""How well an attribute was transferred: is it the one asked for, and is the rest still there (paper, section 6.2).

Accuracy is by a classifier of real training sentences, of which no model that is scored has seen anything. BLEU is
sacrebleu's, of whole corpora, on the tokens as they are given. All figures are percentages.
"""

import math
from collections.abc import Sequence
from typing import Any

from pipelines.corpora.grammar import attributes


def bleu(outputs: Sequence[str], references: Sequence[Sequence[str]], *, one_by_one: bool = False) -> float:
    """BLEU-4 of outputs[N] against references[R][N], tokens separated by spaces (Papineni et al. 2002), in [0, 100].

    one_by_one: for means over sentences; one of fewer than four tokens, which has no 4-gram, is compared by what it has
    (sacrebleu's effective order) and is not 0 whatever it says.
    """
    from sacrebleu.metrics.bleu import BLEU

    # force: it need not guess whether the text is tokenised
    scorer = BLEU(tokenize="none", force=True, effective_order=one_by_one)
    return float(scorer.corpus_score(list(outputs), [list(reference) for reference in references]).score)


class AttributeClassifier:
    """Which class a sentence belongs to: logistic regression on TF-IDF of its words and pairs of words."""

    def __init__(self, sentences: Sequence[str], labels: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]

        least = 2 if len(sentences) > 1000 else 1
        words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), min_df=least, sublinear_tf=True)
        # classes in equal measure, so that accuracy on either says the same
        self._model: Any = make_pipeline(words, LogisticRegression(C=10, max_iter=1000, class_weight="balanced"))
        self._model.fit(list(sentences), list(labels))

    def predict(self, sentences: Sequence[str]) -> list[str]:
        """The class of each sentence."""
        return [str(label) for label in self._model.predict(list(sentences))] if sentences else []


class GrammarClassifier:
    """Which class a sentence of the built-in grammar belongs to, exactly; "" for what is no sentence of it."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    def predict(self, sentences: Sequence[str]) -> list[str]:
        """The class of each sentence."""
        found = [attributes(sentence) for sentence in sentences]
        return [getattr(each, self.attribute) if each else "" for each in found]


def score_transfer(
    classifier: AttributeClassifier | GrammarClassifier,
    sources: Sequence[str],
    outputs: Sequence[str],
    wanted: Sequence[str],
    references: Sequence[Sequence[str]] = (),
) -> dict[str, float]:
    """The figures of outputs[N], which say sources[N] again as of the classes wanted[N].

    transfer_accuracy    share of the outputs that the classifier takes for the class asked for
    transfer_self_bleu   BLEU with the source: is the content still there
    transfer_score       their geometric mean: a copy of the source lacks the one, any other sentence the other
    transfer_bleu        BLEU with people's own rewritings, where references[R][N] has them
    transfer_g2          the geometric mean of accuracy and that
    """
    assert len(sources) == len(outputs) == len(wanted) > 0
    right = sum(a == b for a, b in zip(classifier.predict(outputs), wanted, strict=True))
    accuracy, kept = 100 * right / len(outputs), bleu(outputs, [sources])
    figures = {
        "transfer_accuracy": accuracy,
        "transfer_self_bleu": kept,
        "transfer_score": math.sqrt(accuracy * kept),
    }
    if references:
        figures["transfer_bleu"] = bleu(outputs, references)
        figures["transfer_g2"] = math.sqrt(accuracy * figures["transfer_bleu"])
    return figures
