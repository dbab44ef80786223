"""Words of a text before there is a vocabulary."""

import pytest

from arae_core.settings import VocabularySettings
from pipelines.corpora.words import HUGE, beginning, key_of, splitter


@pytest.mark.parametrize(
    ("tokenizer", "lowercase", "reads"),
    [
        ("words", True, "a man ' s hat ."),
        ("words", False, "A man ' s Hat ."),
        ("spaces", True, "a man's hat."),
        ("a/tokenizer.json", True, "A man's Hat."),
    ],
)
def test_how_a_text_reads(tokenizer: str, lowercase: bool, reads: str) -> None:
    """A pretrained tokenizer gets it as it is, but for white space."""
    words = splitter(VocabularySettings(tokenizer=tokenizer, lowercase=lowercase))
    assert key_of("A  man's\tHat.\n", words, 15) == reads


@pytest.mark.parametrize("tokenizer", ["words", "spaces"])
def test_a_huge_text_is_too_long_without_being_split_whole(tokenizer: str) -> None:
    split, pieces = splitter(VocabularySettings(tokenizer=tokenizer)), list[int]()

    def words(text: str) -> list[str]:
        pieces.append(len(text))
        return split(text)

    huge = "Ab " * HUGE
    key, other = (key_of(text, words, 5) for text in (huge, huge + "c"))
    assert key.count(" ") + 1 > 5 and key.startswith("ab ab ab ab ab ab ") and key != other
    assert max(pieces) == HUGE and beginning(huge, words, 5) == huge[:HUGE]
    one_word = "b" * 3 * HUGE + " end"
    assert key_of(one_word, words, 5) == one_word and beginning(one_word, words, 5) == one_word
