"""The built-in corpus: its machinery against brute force on tiny grammars, its English against hand-written lines."""

import itertools
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpora import grammar, grammar_rules
from pipelines.corpora.context_free import Grammar
from pipelines.corpora.grammar import Attributes, GrammarScorer, attributes, is_valid, log_probability, sample

# Finite and ambiguous (whose hat is it?), with a chain of unit rules that meets again, and weights that are not shares.
TINY = Grammar(
    {
        "S": [(3, ("NP", "VP")), (1, ("Noun", "and", "Noun", "Verb"))],
        "NP": [(1, ("Bare",)), (1, ("Thing",)), (2, ("Noun", "with", "Noun"))],
        "Bare": [(1, ("Thing",)), (3, ("the", "Noun"))],
        "Thing": [(1, ("Noun",))],
        "VP": [(2, ("Verb",)), (2, ("Verb", "NP")), (1, ("Verb", "NP", "with", "Noun"))],
    },
    {"Noun": {"dogs": 2, "hats": 1}, "Verb": {"see": 1, "like": 4}},
    "S",
)


def derivations(g: Grammar, symbol: str) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Every derivation from a symbol with its probability: rule by rule, no chart."""
    if symbol in g.lexicon:
        yield from ((p, (word,)) for word, p in g.lexicon[symbol].items())
        return
    for side, p in g.rules[symbol].items():
        for parts in itertools.product(*(list(derivations(g, s)) for s in side)):
            yield p * math.prod(q for q, _ in parts), tuple(w for _, words in parts for w in words)


def word_inside(g: Grammar, words: tuple[str, ...]) -> float:
    leaves = [{g.part[word]: g.lexicon[g.part[word]][word]} for word in words]
    return g.inside(leaves).get(g.start, 0.0)


def test_inside_equals_the_sum_over_enumerated_derivations() -> None:
    exact: Counter[tuple[str, ...]] = Counter()
    readings: Counter[tuple[str, ...]] = Counter()
    for p, words in derivations(TINY, "S"):
        exact[words] += p  # type: ignore[assignment]
        readings[words] += 1
    assert math.fsum(exact.values()) == pytest.approx(1.0, abs=1e-12)
    # NP of the noun and its PP, or a PP of the verb and two unit chains to the noun
    assert readings["the", "dogs", "see", "hats", "with", "hats"] == 3
    for words, p in exact.items():
        assert word_inside(TINY, words) == pytest.approx(p, rel=1e-12)
    shorter = [w for n in range(1, 6) for w in itertools.product(sorted(TINY.part), repeat=n)]
    assert sum(word_inside(TINY, words) > 0 for words in shorter) == sum(len(words) < 6 for words in exact)


def test_draws_have_their_probabilities() -> None:
    generator, count = random.Random(0), 20_000
    drawn = Counter(tuple(TINY.draw(generator)) for _ in range(count))
    for words, n in drawn.most_common(40):
        expected = count * word_inside(TINY, words)
        assert abs(n - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("length", [1, 2, 3, 6, 10])
def test_inside_counts_every_parse_of_a_recursive_grammar(length: int) -> None:
    g = Grammar({"S": [(0.3, ("S", "S")), (0.7, ("a",))]}, {}, "S")
    parses = math.comb(2 * length - 2, length - 1) // length  # Catalan number
    assert word_inside(g, ("a",) * length) == pytest.approx(parses * 0.3 ** (length - 1) * 0.7**length, rel=1e-12)
    assert g.inside([]) == {}


def test_a_leaf_may_have_several_parts_of_speech() -> None:
    """A coarse leaf sums over the skeletons that it stands for."""
    some = {"Noun": 1.0, "the": 1.0}
    by_hand = [TINY.inside([{a: 1.0}, {b: 1.0}, {"Verb": 1.0}]).get("S", 0.0) for a in some for b in some]
    assert TINY.inside([some, some, {"Verb": 1.0}])["S"] == pytest.approx(sum(by_hand))
    assert sum(by_hand) > 0


def test_a_word_has_one_part_of_speech() -> None:
    with pytest.raises(AssertionError, match="two parts of speech"):
        Grammar({"S": [(1, ("A", "B"))]}, {"A": {"fish": 1}, "B": {"fish": 1}}, "S")


# The English.


def test_first_draws() -> None:
    """Golden: a change here changes everybody's built-in corpus, so it must be meant."""
    assert sample(6, seed=0) == [
        "some puppies found the dog .",
        "the nasty horses in the tent guarded a small bottle .",
        "a man near this kitchen stares at the black monkey .",
        "two men hug the blond farmer .",
        "the singers play with the black horses that a strong woman watched .",
        "three young children are cleaning a ball .",
    ]
    assert log_probability("some puppies found the dog .") == pytest.approx(-16.368307776449406, abs=1e-9)


def test_the_same_in_every_process_and_light() -> None:
    code = (
        "import sys; from pipelines.corpora import grammar as g; s = g.sample(50, 7); "
        "print(s[-1], [g.log_probability(x) for x in s], g.GrammarScorer().score(s), 'torch' in sys.modules)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": h},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for h in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().endswith("False\n")


def test_probability_by_hand() -> None:
    """ "a man walks ." has one parse; its rules and words, read off grammar_rules.py."""
    rules = [
        1 / 18,  # attributes
        3 / 4,  # a person
        32 / 38,  # a plain subject: 32 + 3 + 1 + 2
        6 / 9 * 5 / 10,  # no adjective; a
        24 / 33,  # a plain predicate: 24 + 5 + 1 + 3
        6 / 30,  # move: 6 + 3 + 2 for every being, 3 + 14 + 1 + 1 for a person
    ]
    words = [(1 / 2) / sum(1 / (r + 2) for r in range(n)) for n in (13, 6)]  # man, walks
    assert log_probability("a man walks .") == pytest.approx(math.log(math.prod(rules + words)), abs=1e-12)


def test_shortest_sentences_sum_to_their_skeletons() -> None:
    """All sentences of a determiner, a noun and a verb, one by one, are as probable as their skeletons together."""
    parts = {word: grammar_rules.tag(part) for word, part in grammar._english().part.items()}
    words = {t: [w for w, has in parts.items() if has == t] for t in ("DT", "NN", "NNS", "VBZ", "VBP", "VBD")}
    for noun, verb in (("NN", "VBZ"), ("NNS", "VBP"), ("NN", "VBD")):
        each = [log_probability(f"{' '.join(w)} .") for w in itertools.product(words["DT"], words[noun], words[verb])]
        mass = grammar._mass(("DT", noun, verb, "."))
        assert math.fsum(map(math.exp, each)) == pytest.approx(mass, rel=1e-9)
        assert mass > 1e-3


def test_frequencies_are_the_exact_probabilities() -> None:
    drawn = sample(10_000, seed=3)
    part = grammar._english().part
    tags = Counter(tuple(grammar_rules.tag(part[word]) for word in s.split()) for s in drawn)
    for skeleton, n in tags.most_common(30):
        expected = len(drawn) * grammar._mass(skeleton)
        assert abs(n - expected) < 5 * math.sqrt(expected)
    common = sorted(set(drawn), key=log_probability)[-400:]
    expected = len(drawn) * math.fsum(math.exp(log_probability(s)) for s in common)
    again = Counter(sample(10_000, seed=4))  # fresh: the common ones were picked from `drawn`
    assert abs(sum(again[s] for s in common) - expected) < 5 * math.sqrt(expected)


def test_every_draw_is_valid_and_has_the_attributes_asked_for() -> None:
    assert all(map(is_valid, sample(2000, seed=1)))
    for tense, number, sentiment in itertools.product(
        grammar_rules.TENSES, grammar_rules.NUMBERS, grammar_rules.SENTIMENTS
    ):
        drawn = sample(60, seed=1, tense=tense, number=number, sentiment=sentiment)
        assert {attributes(s) for s in drawn} == {Attributes(tense, number, sentiment)}
    positive = [attributes(s) for s in sample(300, seed=2, sentiment="positive")]
    assert Counter(a.tense for a in positive if a).keys() == set(grammar_rules.TENSES)


def test_unknown_attribute() -> None:
    with pytest.raises(ValueError, match=r"sentiment must be one of neutral, positive, negative, got 'happy'"):
        sample(1, seed=0, sentiment="happy")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a little girl is playing with a red ball in the park .", ("progressive", "singular", "neutral")),
        ("the dog that the boys chase sleeps .", ("present", "singular", "neutral")),
        ("the boys that the dog chased are running .", ("progressive", "plural", "neutral")),
        ("a man near this kitchen slept .", ("past", "singular", "neutral")),
        ("a man and a woman dance .", ("present", "plural", "neutral")),
        ("a boy that many dogs that sleep follow wears two hats .", ("present", "singular", "neutral")),
        ("two happy children ate a perfect cake in a garden .", ("past", "plural", "positive")),
        ("the woman helps the man .", ("present", "singular", "positive")),
        ("several cats are walking sadly .", ("progressive", "plural", "negative")),
        ("this grumpy singer insulted a boy .", ("past", "singular", "negative")),
        ("the man walked and carried a bag .", ("past", "singular", "neutral")),
    ],
)
def test_attributes(sentence: str, expected: tuple[str, str, str]) -> None:
    assert attributes(sentence) == Attributes(*expected)
    assert is_valid(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        ".",
        "a dog sleeps",
        "a dog sleeps . .",
        "a  dog sleeps .",
        "A dog sleeps .",
        "a dog sleep .",
        "dog sleeps .",
        "a dogs sleep .",
        "two dogs sleeps .",
        "two dogs is sleeping .",
        "a dog sleeping .",
        "the dog that the boys chases sleeps .",  # agreement inside the relative clause
        "the dog that the boys chase sleep .",  # and across it
        "the dogs that watches a boy sleep .",  # the clause agrees with the noun it describes
        "a man holds a ball that the boys throws .",
        "the men near the station sleeps .",
        "a man and a woman dances .",
        "the man walks and carried a bag .",  # tenses mixed
        "a happy man cries .",  # sentiments mixed
        "the dog drives a car .",  # selection
        "the man eats a truck .",
        "a unicorn sleeps .",
        "a man holds .",
        "a man sleeps a ball .",
    ],
)
def test_not_in_the_language(sentence: str) -> None:
    assert not is_valid(sentence)
    assert log_probability(sentence) == -math.inf
    assert attributes(sentence) is None


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_broken_sentences_are_rejected(seed: int, data: st.DataObject) -> None:
    words = sample(1, seed, tense="progressive")[0].split()
    assert not is_valid(" ".join(words[: data.draw(st.integers(0, len(words) - 1))]))
    aux = next(i for i, word in enumerate(words) if word in ("is", "are"))
    words[aux] = {"is": "are", "are": "is"}[words[aux]]
    assert not is_valid(" ".join(words))


@given(seed=st.integers(0, 2**32 - 1))
def test_sentiments_share_their_content(seed: int) -> None:
    """Each word with a sentiment has a partner with the other, so that transfer has exact answers."""
    lexicon = grammar._english().lexicon
    partner = {
        word: other
        for part in lexicon
        if "positive" in part
        for word, other in zip(lexicon[part], lexicon[part.replace("positive", "negative")], strict=True)
    }
    sentence = sample(1, seed, sentiment="positive")[0]
    changed = " ".join(partner.get(word, word) for word in sentence.split())
    before, after = attributes(sentence), attributes(changed)
    assert before is not None
    assert after == before._replace(sentiment="negative")
    assert log_probability(changed) == pytest.approx(log_probability(sentence), abs=1e-9)


def test_what_the_corpus_is_like() -> None:
    vocabulary = grammar._english().part
    assert 250 <= len(vocabulary) <= 400
    drawn = sample(20_000, seed=0)
    lengths = [len(s.split(" ")) for s in drawn]
    assert sum(n > 15 for n in lengths) < 0.03 * len(drawn)
    assert sum(5 <= n <= 12 for n in lengths) > 0.8 * len(drawn)
    for start in range(0, 10_000, 2500):
        short = [s for s, n in zip(drawn[start:], lengths[start:], strict=True) if n <= 15][:2000]
        assert len(set(short)) >= 0.97 * 2000
    assert {w for s in drawn for w in s.split(" ")} == set(vocabulary)  # no word is dead
    assert not any(f" a {vowel}" in f" {s}" for s in drawn for vowel in "aeiou")
    assert grammar.entropy() == pytest.approx(grammar.entropy(seed=1), abs=0.6)
    assert 15 < grammar.entropy() < 25


def test_scorer() -> None:
    scorer = GrammarScorer()
    real = sample(2000, seed=1)
    assert scorer.score(real) == {"valid": 1.0, "coverage": pytest.approx(scorer.ceiling(), abs=0.03)}
    assert 0.8 <= scorer.ceiling() <= 0.95
    assert scorer.ceiling(200) < scorer.ceiling(1000) < scorer.ceiling()
    assert scorer.score(["a dogs ."]) == {"valid": 0.0, "coverage": 0.0}
    one = grammar._mass(("DT", "NN", "VBZ", "."))
    collapsed = ["a dog sleeps .", "the man walks .", "a dog sleeps .", "dog a sleeps ."]
    assert scorer.score(collapsed) == {"valid": 0.75, "coverage": pytest.approx(one)}


def test_coverage_is_the_chance_that_the_next_sentence_is_covered() -> None:
    part = grammar._english().part

    def skeletons(seed: int) -> list[tuple[str, ...]]:
        return [tuple(grammar_rules.tag(part[word]) for word in s.split()) for s in sample(4000, seed)]

    seen = set(skeletons(5)[:2000])
    share = sum(s in seen for s in skeletons(6)) / 4000
    assert share == pytest.approx(GrammarScorer().ceiling(2000, seed=5), abs=0.03)


def test_corpus() -> None:
    splits = grammar.corpus(3000, seed=0)
    train, validation, test = (set(splits[name]) for name in ("train", "validation", "test"))
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(splits["validation"]) == len(validation) == len(splits["test"]) == len(test) == 300
    drawn = Counter(sample(3000, seed=0))
    assert Counter(splits["train"]) == Counter({s: n for s, n in drawn.items() if s not in validation | test})
    assert splits == grammar.corpus(3000, seed=0) != grammar.corpus(3000, seed=1)
    with pytest.raises(ValueError, match=r"data.size must be >= 30, got 5"):
        grammar.corpus(5, seed=0)


def test_fast_enough() -> None:
    """Bounds ten times what is needed, in time of this process: they catch a change of order, not a busy machine."""
    grammar._parsed.cache_clear()
    grammar._mass.cache_clear()
    start = time.process_time()
    sample(20_000, seed=0)
    drawn = time.process_time()
    known = list(grammar._english().part)
    generator = random.Random(0)
    GrammarScorer().score(sample(1000, seed=8) + [" ".join(generator.choices(known, k=15)) for _ in range(1000)])
    assert drawn - start < 3
    assert time.process_time() - drawn < 5
