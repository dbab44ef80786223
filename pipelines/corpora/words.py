"""Words of a text: what counts as equal, as empty and as too long before there is a vocabulary."""

import hashlib
from collections.abc import Callable

from tokenizers import normalizers, pre_tokenizers

from arae_core.settings import TOKENIZERS, VocabularySettings

HUGE = 100_000
"""Characters of a text that is split part by part until it is known to have too many words."""


def splitter(settings: VocabularySettings) -> Callable[[str], list[str]]:
    """Return a function that normalizes a text and splits it into words."""
    ours = settings.tokenizer in TOKENIZERS
    lower = normalizers.Lowercase().normalize_str if ours and settings.lowercase else str
    if settings.tokenizer != "words":
        return lambda text: lower(text).split()
    split = pre_tokenizers.Whitespace().pre_tokenize_str
    return lambda text: [word for word, _ in split(lower(text))]


def key_of(text: str, words: Callable[[str], list[str]], longest: int) -> str:
    """Return the words of a text, joined by single spaces. Equal texts have equal keys.

    Of a huge text, they are the first ones, more than `longest`, and a digest of the text.
    """
    start = beginning(text, words, longest)
    if len(start) == len(text):
        return " ".join(words(text))
    return " ".join([*words(start)[: longest + 1], hashlib.sha256(text.encode()).hexdigest()])


def beginning(text: str, words: Callable[[str], list[str]], longest: int) -> str:
    """Return the text, or a beginning of more than `longest` words if it is huge: splitting takes much memory."""
    size = HUGE
    while size < len(text):
        if len(words(text[:size])) > longest + 1:
            return text[:size]
        size *= 4
    return text
