"""BLEU against its definition, classifiers that find what is there, and copies that score as copies."""

import math
from collections import Counter

import pytest

from pipelines.corpora.grammar import sample
from pipelines.evaluation.corpus_language_model import self_bleu
from pipelines.evaluation.transfer_metrics import AttributeClassifier, GrammarClassifier, bleu, score_transfer


def grams(sentence: str, n: int) -> Counter[tuple[str, ...]]:
    words = sentence.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def by_definition(outputs: list[str], references: list[list[str]]) -> float:
    """BLEU-4 from Papineni et al. 2002, section 2.3: clipped precisions of the corpus, brevity penalty."""
    logs, length, closest = [], 0, 0
    for n in range(1, 5):
        right = total = 0
        for i, output in enumerate(outputs):
            most = [grams(reference[i], n) for reference in references]
            right += sum(min(count, max(m[gram] for m in most)) for gram, count in grams(output, n).items())
            total += grams(output, n).total()
        logs.append(math.log(right / total))
    for i, output in enumerate(outputs):
        own = len(output.split())
        length += own
        closest += min((abs(len(r[i].split()) - own), len(r[i].split())) for r in references)[1]
    return 100 * min(1.0, math.exp(1 - closest / length)) * math.exp(sum(logs) / 4)


def test_bleu_is_that_of_its_paper() -> None:
    outputs = ["the food is really very good .", "i will never come back here again .", "it was fine"]
    first = ["the food is very very good .", "i will surely come back here again .", "it was just fine"]
    second = ["food here is really very good .", "i will be back here again soon .", "all was fine"]
    assert bleu(outputs, [first]) == pytest.approx(by_definition(outputs, [first]), abs=1e-6)
    assert bleu(outputs, [first, second]) == pytest.approx(by_definition(outputs, [first, second]), abs=1e-6)
    assert bleu(outputs, [outputs]) == pytest.approx(100)


def test_a_classifier_learns_what_tells_classes_apart() -> None:
    texts = [f"{word} {noun} {i}" for word in ("good", "bad") for noun in ("food", "staff") for i in range(5)]
    classifier = AttributeClassifier(texts, ["up"] * 10 + ["down"] * 10)
    assert classifier.predict(["good place", "such bad food"]) == ["up", "down"]
    assert classifier.predict([]) == []


def test_a_class_of_few_sentences_is_no_less_likely_than_one_of_many() -> None:
    """Of reviews, seven in eight praise. A word of three in five that complain and of one in five that praise speaks of
    a complaint, though more of those that have it praise."""
    few = ["food slow"] * 3 + ["food"] * 2
    many = (["food slow"] + ["food"] * 4) * 7
    classifier = AttributeClassifier(few + many, ["down"] * len(few) + ["up"] * len(many))
    assert classifier.predict(["food slow", "food"]) == ["down", "up"]


def test_the_grammar_knows_its_sentences_exactly() -> None:
    classifier = GrammarClassifier("sentiment")
    for sentiment in ("positive", "negative", "neutral"):
        assert set(classifier.predict(sample(50, 3, sentiment=sentiment))) == {sentiment}
    assert classifier.predict(["happy dog a ."]) == [""]


def test_figures_of_copies_and_of_other_sentences() -> None:
    sources = sample(60, 5, sentiment="negative")
    others = sample(60, 6, sentiment="positive")
    wanted = ["positive"] * 60
    copied = score_transfer(GrammarClassifier("sentiment"), sources, sources, wanted)
    assert copied["transfer_accuracy"] == 0 and copied["transfer_self_bleu"] == pytest.approx(100)
    assert copied["transfer_score"] == 0
    drawn = score_transfer(GrammarClassifier("sentiment"), sources, others, wanted, [others, sources])
    assert drawn["transfer_accuracy"] == 100 and drawn["transfer_self_bleu"] < 50
    assert drawn["transfer_score"] == pytest.approx(math.sqrt(100 * drawn["transfer_self_bleu"]))
    assert drawn["transfer_bleu"] == pytest.approx(100) and drawn["transfer_g2"] == pytest.approx(100)
    half = score_transfer(GrammarClassifier("sentiment"), sources, sources[:30] + others[30:], wanted)
    assert half["transfer_accuracy"] == 50


@pytest.mark.parametrize("sentence", ["a", "a b", "a b c", "a b c d e"])
def test_copies_of_one_sentence_are_alike_however_short(sentence: str) -> None:
    assert self_bleu([sentence] * 10) == pytest.approx(100)


def test_self_bleu_is_between_that_of_copies_and_that_of_strangers() -> None:
    assert self_bleu(["a b c d e", "f g h i j"]) == pytest.approx(0, abs=5)
    assert self_bleu(["a b c"] * 5 + ["a man is walking outside"] * 5) == pytest.approx(100)
    assert 10 < self_bleu(["a man walks in a park .", "a man walks to work ."]) < 90
    assert self_bleu(["a"]) == 0


def test_what_is_kept_is_measured_of_the_output_against_its_source() -> None:
    """An output that lacks words is too short, its source is not too long."""
    sources, outputs = ["the sad man sleeps in the house ."], ["the sad man sleeps in the"]
    found = score_transfer(GrammarClassifier("sentiment"), sources, outputs, ["positive"])
    assert (
        found["transfer_self_bleu"]
        == pytest.approx(bleu(outputs, [sources]))
        != pytest.approx(bleu(sources, [outputs]))
    )
