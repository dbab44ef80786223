"""Probabilistic context-free grammars: sampling, and exact probabilities by the inside algorithm."""

import itertools
import math
import random
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Rules = Mapping[str, Sequence[tuple[float, tuple[str, ...]]]]
Lexicon = Mapping[str, Mapping[str, float]]
Symbol = str | tuple[str, ...]
"""A symbol of the grammar, or the beginning of a longer right-hand side."""
Key = TypeVar("Key")


class Grammar:
    """A probabilistic context-free grammar.

    rules:    symbol -> right-hand sides with weights, positive numbers that are scaled to sum to 1
    lexicon:  part of speech (preterminal) -> words with weights. A word has one part of speech, so a sentence has one
              skeleton, the sequence of the parts of speech of its words. A symbol in neither is a word and its own part
              of speech.
    """

    def __init__(self, rules: Rules, lexicon: Lexicon, start: str) -> None:
        words = {s for sides in rules.values() for _, side in sides for s in side} - rules.keys() - lexicon.keys()
        self.start = start
        self.rules = {left: _shares({side: weight for weight, side in sides}) for left, sides in rules.items()}
        self.lexicon = {part: _shares(weights) for part, weights in lexicon.items()} | {
            w: {w: 1.0} for w in sorted(words)
        }
        self.part = {word: part for part, shares in self.lexicon.items() for word in shares}
        assert start in rules and not rules.keys() & self.lexicon.keys()
        assert len(self.part) == sum(len(shares) for shares in self.lexicon.values()), "a word with two parts of speech"
        assert all(len(sides) == len(rules[left]) for left, sides in self.rules.items()), "a rule twice"
        self._sides = {left: _cumulative(shares) for left, shares in self.rules.items()}
        self._words = {part: _cumulative(shares) for part, shares in self.lexicon.items()}
        self._above: dict[str, dict[str, float]] = {}
        self._pairs = self._binary()

    def _binary(self) -> dict[Symbol, dict[Symbol, list[tuple[Symbol, float]]]]:
        """Return left -> right -> [(symbol that yields the two, probability)].

        `left` is a symbol, or the beginning of a longer right-hand side as a tuple. Unit rules, with one symbol on the
        right, are already followed upwards, so the inside algorithm never meets them.
        """
        units: dict[str, list[tuple[str, float]]] = {}
        for left, sides in self.rules.items():
            for side, p in sides.items():
                if len(side) == 1:
                    units.setdefault(side[0], []).append((left, p))

        def above(symbol: str) -> dict[str, float]:  # Z -> p(Z =>* symbol by unit rules); does not end on a cycle
            total = {symbol: 1.0}
            for left, p in units.get(symbol, ()):
                for top, q in above(left).items():
                    total[top] = total.get(top, 0.0) + p * q
            return total

        self._above = {symbol: above(symbol) for symbol in [*self.rules, *self.lexicon]}
        made: dict[tuple[Symbol, str], dict[Symbol, float]] = {}
        for left, sides in self.rules.items():
            for side, p in sides.items():
                first: Symbol = side[0]
                for i, symbol in enumerate(side[1:], 2):
                    results = made.setdefault((first, symbol), {})
                    first = side[:i]
                    if i < len(side):
                        results[first] = 1.0
                    else:
                        for top, q in self._above[left].items():
                            results[top] = results.get(top, 0.0) + p * q
        pairs: dict[Symbol, dict[Symbol, list[tuple[Symbol, float]]]] = {}
        for (one, other), results in made.items():
            pairs.setdefault(one, {})[other] = list(results.items())
        return pairs

    def draw(self, generator: random.Random, symbol: str | None = None) -> list[str]:
        """Return the words of one sample from `symbol`, by default the start symbol."""
        words: list[str] = []
        stack = [symbol or self.start]
        while stack:
            top = stack.pop()
            if top in self._sides:
                side = _chosen(*self._sides[top], generator)
                stack.extend(reversed(side))
            else:
                words.append(_chosen(*self._words[top], generator))
        return words

    def inside(self, leaves: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return symbol -> probability that it yields the leaves, summed over all parses; 0 is left out.

        A leaf holds the weight of each part of speech at its position: {part: 1} for a skeleton, {part: p(word | part)}
        for a word, several parts for a coarser description. Takes O(len(leaves)^3).
        """
        pairs = self._pairs
        # chart[i][j]: symbol -> weight of leaves i..j
        chart: list[list[dict[Symbol, float]]] = [[{} for _ in leaves] for _ in leaves]
        for j, leaf in enumerate(leaves):
            for part, weight in leaf.items():
                for symbol, p in self._above[part].items():
                    chart[j][j][symbol] = chart[j][j].get(symbol, 0.0) + p * weight
            for i in range(j - 1, -1, -1):
                cell = chart[i][j]
                for k in range(i, j):
                    rest = chart[k + 1][j]
                    for one, p in chart[i][k].items() if rest else ():
                        others = pairs.get(one, {})
                        for other in rest if others else ():
                            for top, q in others.get(other, ()):
                                cell[top] = cell.get(top, 0.0) + p * rest[other] * q
        return {symbol: p for symbol, p in chart[0][-1].items() if isinstance(symbol, str)} if leaves else {}

    def skeleton(self, words: Iterable[str]) -> tuple[str, ...] | None:
        """Return the parts of speech of `words`; None if a word is unknown."""
        parts = tuple(self.part.get(word, "") for word in words)
        return parts if all(parts) else None


def _shares(weights: Mapping[Key, float]) -> dict[Key, float]:
    total = math.fsum(weights.values())
    return {key: weight / total for key, weight in weights.items()}


def _cumulative(shares: Mapping[Key, float]) -> tuple[list[Key], list[float]]:
    return list(shares), list(itertools.accumulate(shares.values()))


def _chosen(options: list[Key], cumulative: list[float], generator: random.Random) -> Key:
    # Only random() is guaranteed to give the same numbers in every version of Python. The last sum may be rounded to
    # just under 1.
    return options[min(bisect(cumulative, generator.random()), len(options) - 1)]
