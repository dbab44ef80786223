"""Pairs of the built-in grammar: both sentences in the language, and what each class promises."""

from collections import Counter

from pipelines.corpora.grammar import corpus, is_valid, sample
from pipelines.corpora.grammar_pairs import CLASSES, Pair, pairs
from pipelines.corpora.sources import Sentence

FOUND = pairs(sample(700, 1), 3)


def words_of(pair: Pair) -> tuple[list[str], list[str]]:
    return pair.premise.split(), pair.hypothesis.split()


def left_out(longer: list[str], shorter: list[str]) -> bool:
    """Whether the one is the other without some words in a row."""
    gap = len(longer) - len(shorter)
    return any(longer[:i] + longer[i + gap :] == shorter for i in range(len(shorter) + 1))


def test_both_sentences_are_in_the_language() -> None:
    assert len(FOUND) > 400
    assert all(is_valid(pair.premise) and is_valid(pair.hypothesis) for pair in FOUND)
    assert all(pair.premise != pair.hypothesis for pair in FOUND)


def test_classes_come_in_turn() -> None:
    counts = Counter(pair.label for pair in FOUND)
    assert set(counts) == set(CLASSES) and max(counts.values()) - min(counts.values()) <= 1


def test_what_follows_leaves_something_out() -> None:
    for pair in FOUND:
        if pair.label == "entailment":
            premise, hypothesis = words_of(pair)
            assert len(hypothesis) < len(premise) and left_out(premise, hypothesis)


def test_what_is_neutral_says_something_that_the_premise_does_not() -> None:
    shorter = 0
    for pair in FOUND:
        if pair.label == "neutral":
            premise, hypothesis = words_of(pair)
            assert Counter(hypothesis) - Counter(premise)
            shorter += len(hypothesis) <= len(premise)
    assert shorter > 20, "and its length alone does not tell"


def test_what_contradicts_has_one_word_changed() -> None:
    for pair in FOUND:
        if pair.label == "contradiction":
            premise, hypothesis = words_of(pair)
            assert sum((Counter(hypothesis) - Counter(premise)).values()) == 1
            assert len(hypothesis) < len(premise)


def test_the_seed_decides() -> None:
    sentences = sample(60, 1)
    assert pairs(sentences, 3) == FOUND[: len(pairs(sentences, 3))]
    assert pairs(sentences, 4) != pairs(sentences, 3)


def test_the_corpus_of_pairs() -> None:
    plain = corpus(300, 0)
    for split, examples in corpus(300, 0, "entailment").items():
        found = [example for example in examples if isinstance(example, Sentence)]
        assert len(found) == len(examples) > 20 and len(found) % 2 == 0
        premises = [example.text for example in found[::2]]
        assert sum(text in plain[split] for text in premises) > len(premises) / 2
        for first, second in zip(found[::2], found[1::2], strict=True):
            assert first.label == second.label and first.label in CLASSES
