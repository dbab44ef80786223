"""Pairs of sentences of the built-in grammar: the second follows from the first, contradicts it, or neither.

A caption describes a scene. Without a modifier or a place it remains true; with another noun or verb it is false:

    entailment      a little girl is running in the park .      a girl is running in the park .
    neutral         a girl is running in the park .             a little girl is running .
    contradiction   a little girl is running in the park .      a girl is running in the garden .
"""

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pipelines.corpora import grammar_rules

Choice = TypeVar("Choice")
CLASSES = ("entailment", "neutral", "contradiction")
MODIFIERS = ("Trait", "Look", "Mood", "Quality", "Manner")
"""Parts of speech that any sentence can do without."""
CONTENT = ("Noun", "Present", "Past", "Participle")


class Pair(NamedTuple):
    """Two sentences and their class, one of CLASSES."""

    premise: str
    hypothesis: str
    label: str


def pairs(sentences: Sequence[str], seed: int) -> list[Pair]:
    """Make a pair of each sentence with something to leave out, with the classes in turn. A seed fixes the choices."""
    lexicon = grammar_rules.lexicon()
    part = {word: name for name, words in lexicon.items() for word in words}
    generator = random.Random(seed)
    found: list[Pair] = []
    for sentence in sentences:
        words = sentence.split(" ")
        spans = _optional([part.get(word, "") for word in words])
        if not spans:
            continue
        label = CLASSES[len(found) % len(CLASSES)]
        shorter = _without(words, _one(spans, generator))
        if label == "entailment":
            pair = (words, shorter)
        elif label == "neutral":
            others = [span for span in spans if _without(words, span) != shorter]
            pair = (shorter, _without(words, _one(others, generator)) if others else words)
        else:
            places = [i for i, word in enumerate(shorter) if part.get(word, "").startswith(CONTENT)]
            place = _one(places, generator)
            alike = [word for word in lexicon[part[shorter[place]]] if word != shorter[place]]
            pair = (words, [*shorter[:place], _one(alike, generator), *shorter[place + 1 :]])
        found.append(Pair(" ".join(pair[0]), " ".join(pair[1]), label))
    return found


def _optional(parts: Sequence[str]) -> list[tuple[int, int]]:
    """Return spans (start, end) that can be left out: a modifier, or a place with its preposition and determiner."""
    single = [(i, i + 1) for i, name in enumerate(parts) if name.split("[")[0] in MODIFIERS]
    return single + [(i - 2, i + 1) for i, name in enumerate(parts) if name == "Noun[place]"]


def _without(words: Sequence[str], span: tuple[int, int]) -> list[str]:
    return [*words[: span[0]], *words[span[1] :]]


def _one(options: Sequence[Choice], generator: random.Random) -> Choice:
    return options[int(generator.random() * len(options))]  # only random() is the same in every Python
