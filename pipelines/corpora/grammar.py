"""Built-in text corpus: a probabilistic context-free grammar of English captions.

    a little girl is playing with a red ball in the park .

The language is known exactly, so samples of a model can be judged without a reference corpus: is a sentence in the
language, how probable is it, which attributes has it, and how much of the language do the samples cover. The rules and
words are in grammar_rules.py. A sentence is a string of lower-case tokens separated by single spaces, with "." last.
"""

import functools
import random
from collections import defaultdict
from collections.abc import Sequence
from math import fsum, inf, log
from typing import NamedTuple

from arae_core.settings.checks import at_least, one_of
from pipelines.corpora import grammar_rules
from pipelines.corpora.context_free import Grammar
from pipelines.corpora.grammar_pairs import pairs
from pipelines.corpora.grammar_rules import NUMBERS, SENTIMENTS, TENSES
from pipelines.corpora.sources import Sentence

START = "Text"


class Attributes(NamedTuple):
    """Attributes of a sentence: one of TENSES, one of NUMBERS (of the subject) and one of SENTIMENTS."""

    tense: str
    number: str
    sentiment: str


def sample(
    count: int, seed: int, *, tense: str | None = None, number: str | None = None, sentiment: str | None = None
) -> list[str]:
    """Draw `count` independent sentences with the given attributes. A seed gives the same ones on every machine."""
    grammar = _english(tense, number, sentiment)
    generator = random.Random(seed)
    return [" ".join(grammar.draw(generator)) for _ in range(count)]


def corpus(size: int, seed: int, label: str = "") -> "dict[str, list[str] | list[Sentence]]":
    """Draw `size` sentences and split them into "train", "validation" and "test"; no sentence is in two splits.

    label: name of one of the Attributes, whose value becomes the label of each sentence, or "entailment" for labelled
    pairs made from the sentences (premise, hypothesis, premise, ...).

    Validation and test are a tenth each, at most 2,000. They are the first distinct sentences drawn, hence a fair
    sample. Train is the rest without the sentences of those two; a sentence drawn twice is in it twice.
    """
    at_least("data.size", size, 30)
    drawn = sample(size, seed)
    held = min(size // 10, 2000)
    held_out = list(dict.fromkeys(drawn))[: 2 * held]
    known = frozenset(held_out)
    train = [sentence for sentence in drawn if sentence not in known]
    splits = {"train": train, "validation": held_out[:held], "test": held_out[held:]}
    if not label:
        return {**splits}
    if label == "entailment":
        return {
            split: [Sentence(text, pair.label) for pair in pairs(sentences, seed) for text in pair[:2]]
            for split, sentences in splits.items()
        }
    return {
        split: [Sentence(sentence, getattr(attributes(sentence), label)) for sentence in sentences]
        for split, sentences in splits.items()
    }


def is_valid(sentence: str) -> bool:
    """Return True if the sentence is in the language."""
    return log_probability(sentence) > -inf


def log_probability(sentence: str) -> float:
    """Return the exact log-probability in nats, summed over all parses; -inf for a sentence not in the language."""
    grammar = _english()
    words = sentence.split(" ")
    skeleton = grammar.skeleton(words)
    if skeleton is None or (inside := _parsed(skeleton)[0]) == 0.0:
        return -inf
    return log(inside) + sum(log(grammar.lexicon[part][word]) for part, word in zip(skeleton, words, strict=True))


def attributes(sentence: str) -> Attributes | None:
    """Return the attributes of the sentence, the same in all its parses; None for a sentence not in the language."""
    skeleton = _english().skeleton(sentence.split(" "))
    return None if skeleton is None else _parsed(skeleton)[1]


def entropy(count: int = 2000, seed: int = 0) -> float:
    """Estimate the entropy in nats per sentence from `count` samples: the lowest expected loss of any model."""
    return -fsum(map(log_probability, sample(count, seed))) / count


class GrammarScorer:
    """Scores samples of a model against the grammar.

    valid: share of the sentences that are in the language. coverage: share of the syntax that the valid ones reach.

    The skeleton of a sentence is the sequence of Penn Treebank tags of its words: "two dogs bark ." is DT NNS VBP . Its
    mass is the probability that a sentence of the grammar has it, exact by the inside algorithm. Coverage is the sum of
    the masses of the distinct skeletons among the valid samples: the probability that the next real sentence has a
    skeleton that is among the samples. It grows with the number of samples; `ceiling` is that of real sentences.
    """

    def score(self, sentences: Sequence[str]) -> dict[str, float]:
        """Return {"valid", "coverage"}, both in [0, 1], of one or more sentences."""
        assert sentences, "no sentences to score"
        part = _english().part
        valid = [sentence.split(" ") for sentence in sentences if is_valid(sentence)]
        skeletons = {tuple(grammar_rules.tag(part[word]) for word in words) for words in valid}
        return {"valid": len(valid) / len(sentences), "coverage": fsum(map(_mass, skeletons))}

    def ceiling(self, count: int = 2000, seed: int = 0) -> float:
        """Return the coverage of `count` sentences drawn from the grammar itself."""
        return self.score(sample(count, seed))["coverage"]


@functools.cache
def _english(tense: str | None = None, number: str | None = None, sentiment: str | None = None) -> Grammar:
    """Return the grammar, restricted to the given attributes, which the right-hand sides of the start symbol name."""
    fixed = {"tense": (tense, TENSES), "number": (number, NUMBERS), "sentiment": (sentiment, SENTIMENTS)}
    for name, (value, allowed) in fixed.items():
        if value is not None:
            one_of(name, value, allowed)
    rules = grammar_rules.rules()
    wanted = [value for value, _ in fixed.values()]
    start = [
        (weight, side)
        for weight, side in rules[START]
        if all(want in (None, has) for want, has in zip(wanted, _named(side[0]), strict=True))
    ]
    return Grammar({**rules, START: start}, grammar_rules.lexicon(), START)


def _named(symbol: str) -> Attributes:
    """Return the attributes that a symbol such as Sentence[past,plural,positive] names."""
    return Attributes(*symbol.removeprefix("Sentence[").removesuffix("]").split(","))


@functools.lru_cache(maxsize=2**17)
def _parsed(skeleton: tuple[str, ...]) -> tuple[float, Attributes | None]:
    """Return the probability of a sequence of parts of speech, and the attributes of the sentences that have it."""
    inside = _english().inside([{part: 1.0} for part in skeleton])
    found = [_named(symbol) for symbol in inside if symbol.startswith("Sentence[")]
    assert len(found) <= 1, f"{skeleton} has two readings: {found}"
    return inside.get(START, 0.0), found[0] if found else None


@functools.lru_cache(maxsize=2**17)
def _mass(tags: tuple[str, ...]) -> float:
    """Return the probability that a sentence has these tags."""
    parts = _parts_with_tag()
    return _english().inside([parts[tag] for tag in tags])[START]


@functools.cache
def _parts_with_tag() -> dict[str, dict[str, float]]:
    parts: dict[str, dict[str, float]] = defaultdict(dict)
    for part in _english().lexicon:
        parts[grammar_rules.tag(part)][part] = 1.0
    return parts
