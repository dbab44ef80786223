"""Text <-> ids: no word is lost, and no text is read as a special token."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import VocabularySettings

TEXT = [
    "the old dog sleeps .",
    "a small cat runs , and the dog runs .",
    "who sees the cat ?",
    "Ärger naïve 東京 don't",
]


def trained(text: Iterable[str], tokenizer: object = "spaces", **options: Any) -> Vocabulary:
    return Vocabulary.train(text, VocabularySettings(tokenizer=str(tokenizer), **options))


BUILT = {name: trained(TEXT, name, size=300) for name in ("words", "spaces", "bpe")}


@pytest.mark.parametrize("name", BUILT)
def test_text_is_encoded_decoded_saved_and_loaded(name: str, tmp_path: Path) -> None:
    vocabulary = BUILT[name]
    rows = vocabulary.encode(TEXT)
    expected = [sentence.lower() for sentence in TEXT]
    if name == "words":
        expected[3] = "ärger naïve 東京 don ' t"
    assert vocabulary.decode(rows) == expected
    assert vocabulary.encode(expected) == rows
    assert all(0 <= i < len(vocabulary) for row in rows for i in row)
    assert all(vocabulary.unknown not in row for row in rows)
    vocabulary.save(tmp_path / name)
    loaded = Vocabulary.load(tmp_path / name)
    assert (loaded.encode(TEXT), loaded.decode(rows)) == (rows, expected)
    assert (loaded.spec, loaded.special_tokens) == (vocabulary.spec, vocabulary.special_tokens)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"tokenizer.json", "vocabulary.json"}
    assert Tokenizer.from_file(str(tmp_path / name / "tokenizer.json")).get_vocab_size() == len(vocabulary)


@given(st.lists(st.sampled_from(["the", "old", "dog", "cat", "runs", ",", ".", "?"]), max_size=11))
def test_any_sentence_of_known_words_is_decoded_unchanged(words: list[str]) -> None:
    for vocabulary in BUILT.values():
        assert vocabulary.decode(vocabulary.encode([" ".join(words)])) == [" ".join(words)]


def test_settings_of_the_vocabulary() -> None:
    cased = trained(["The the THE"], lowercase=False)
    assert cased.decode(cased.encode(["THE the The"])) == ["THE the The"]
    assert len(cased) == 4 + 3
    assert len(trained(["do n't stop ...", "stop"]).encode(["do n't stop ..."])[0]) == 4, "spaces alone separate words"
    small = trained(["a a a b b c"], size=6)
    assert len(small) == 6
    assert small.decode(small.encode(["a b c d"])) == ["a b <unk> <unk>"], "the most frequent words are kept"


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("token", ["<pad>", "<s>", "</s>"])
def test_special_tokens_in_a_text_are_read_as_unknown(name: str, token: str) -> None:
    vocabulary = BUILT[name]
    (row,) = vocabulary.encode([f"the {token} dog"])
    assert not {vocabulary.pad, vocabulary.start, vocabulary.end} & set(row)
    assert vocabulary.unknown in row
    assert vocabulary.decode([row])[0].split()[-1] == "dog"


@pytest.mark.parametrize("name", BUILT)
def test_a_corpus_with_special_tokens_gives_ids_within_the_vocabulary(name: str) -> None:
    """Penn Treebank and WikiText contain <unk>."""
    text = [*TEXT, "the <unk> dog </s> <UNK> cat <pad>", "<s> a cat <S>"]
    vocabulary = trained(text, name, size=300)
    rows = vocabulary.encode([*text, "unheard-of words"])
    assert max(i for row in rows for i in row) < len(vocabulary)
    assert sorted((vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown)) == [0, 1, 2, 3]
    assert "<unk>" in vocabulary.decode(rows)[4]


def test_special_tokens_but_unknown_are_not_decoded() -> None:
    vocabulary = BUILT["words"]
    (row,) = vocabulary.encode(["the dog"])
    marked = [vocabulary.start, *row, vocabulary.unknown, vocabulary.end, vocabulary.pad]
    assert vocabulary.decode([marked, [], [vocabulary.end]]) == ["the dog <unk>", "", ""]
    assert vocabulary.decode([]) == [] == vocabulary.encode([])


@pytest.mark.parametrize("text", [[], [""], ["the the the"]])
@pytest.mark.parametrize("name", ["words", "spaces"])
def test_fewer_than_two_words_are_refused(name: str, text: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^the training text has [01] .* at least 2"):
        trained(text, name)


def save_bert(path: Path) -> None:
    """Save a word-piece tokenizer that adds BERT's special tokens, truncates and pads."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = {piece: i for i, piece in enumerate([*marks, "the", "dog", "run", "##s", "."])}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.add_special_tokens(marks)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    tokenizer.save(str(path))


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_pretrained_tokenizer_keeps_its_special_tokens(as_folder: bool, tmp_path: Path) -> None:
    save_bert(tmp_path / "tokenizer.json")
    vocabulary = trained(iter(()), tmp_path if as_folder else tmp_path / "tokenizer.json")
    assert (vocabulary.pad, vocabulary.unknown, vocabulary.start, vocabulary.end) == (0, 1, 2, 3)
    assert len(vocabulary) == 10
    rows = vocabulary.encode(["the dog runs.", "the [SEP] cat", "dog"])
    assert rows == [[5, 6, 7, 8, 9], [5, 1, 1], [6]], "no special tokens, no truncation, no padding"
    assert vocabulary.decode(rows[:1]) == ["the dog runs."]
    vocabulary.save(tmp_path / "saved")
    assert Vocabulary.load(tmp_path / "saved").encode(["the dog runs."]) == rows[:1]


@pytest.mark.parametrize("holes", [False, True])
def test_a_pretrained_tokenizer_gets_missing_special_tokens(holes: bool, tmp_path: Path) -> None:
    words = {"the": 0, "dog": 1, "?": 9 if holes else 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))  # the unknown token has no usual name
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "bare.json"))
    vocabulary = trained([], tmp_path / "bare.json")
    marks = {vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown}
    rows = vocabulary.encode(["the dog", "the </s> cat"])
    assert len(marks) == 4 and marks & set(words.values()) == {vocabulary.unknown} == {words["?"]}
    assert max(max(marks), *(i for row in rows for i in row)) < len(vocabulary)
    assert rows == [[0, 1], [0, vocabulary.unknown, vocabulary.unknown]]


def saved(model: Any, folder: Path, splitter: Any = None) -> Path:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = splitter or pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_the_unknown_token_is_no_mark_of_the_sentence(tmp_path: Path) -> None:
    """In GPT-2, one token is both."""
    words = {"<|endoftext|>": 0, "the": 1, "<s>": 2}
    vocabulary = trained([], saved(models.WordLevel(words, unk_token="<|endoftext|>"), tmp_path))
    assert (vocabulary.unknown, vocabulary.start) == (0, 2) and vocabulary.end not in words.values()
    assert vocabulary.encode(["the cat"]) == [[1, 0]]
    unigram = models.Unigram([("<what>", 0.0), ("\u2581the", -1.0), ("\u2581", -2.0)], unk_id=0)
    vocabulary = trained([], saved(unigram, tmp_path, pre_tokenizers.Metaspace()))
    assert vocabulary.special_tokens["unknown"] == "<what>" and vocabulary.unknown in vocabulary.encode(["the cat"])[0]


@pytest.mark.parametrize(
    "model",
    [models.WordLevel({"the": 0, "a": 1}, unk_token="[UNK]"), models.Unigram([("a", -1.0), ("b", -1.0)], unk_id=None)],
    ids=["not in the vocabulary", "none"],
)
def test_a_tokenizer_that_fails_at_unknown_text_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^vocabulary\.tokenizer: .* fails at text that its vocabulary lacks \("
    ) as error:
        trained([], saved(model, tmp_path))
    assert "\n" not in str(error.value)


def test_characters_that_a_tokenizer_drops_are_named(tmp_path: Path) -> None:
    letters = {letter: i for i, letter in enumerate("dog n")}
    dropping = trained([], saved(models.BPE(letters, []), tmp_path))
    texts = ["a dog", "no g\u00e9n\u00e9"]
    assert dropping.lost_characters(texts) == ["a", "\u00e9"]
    assert dropping.decode(dropping.encode(["dog a dog"]))[0].replace(" ", "") == "dogdog", "it drops them"
    unknown = trained([], saved(models.BPE({**letters, "<u>": 5}, [], unk_token="<u>"), tmp_path))
    for vocabulary in (unknown, *BUILT.values()):
        assert vocabulary.lost_characters(texts) == []
    alphabet = {letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    whole = trained([], saved(models.BPE(alphabet, []), tmp_path, pre_tokenizers.ByteLevel()))
    assert whole.lost_characters([*texts, "\u6771\U0001f600"]) == []


def test_missing_and_broken_tokenizers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for source in (tmp_path / "no" / "such.json", tmp_path / "broken.json"):
        with pytest.raises(ValueError, match=r"^vocabulary\.tokenizer must be") as caught:
            trained(TEXT, source)
        assert repr(str(source)) in str(caught.value) and "\n" not in str(caught.value)
    offline: dict[str, Any] = {"from_pretrained.side_effect": Exception("no network\nmore")}
    with (
        patch("arae_core.data.vocabulary.Tokenizer", **offline),
        pytest.raises(ValueError, match=r"^vocabulary\.tokenizer must be .*'some/name' \(no network\).* path"),
    ):
        trained(TEXT, "some/name")
    with pytest.raises(ValueError, match=r"^vocabulary\.tokenizer.* has no tokenizer\.json$"):
        trained(TEXT, tmp_path)
    with pytest.raises(ValueError, match=r"^vocabulary\.tokenizer.*'wrods'.*; did you mean words\?$"):
        trained(TEXT, "wrods")


def test_folders_without_a_vocabulary_are_refused(tmp_path: Path) -> None:
    BUILT["words"].save(tmp_path / "v")
    (tmp_path / "v" / "vocabulary.json").write_text(json.dumps({"pad": "<nothing>"}))
    for folder in (tmp_path / "v", tmp_path / "absent"):
        with pytest.raises(ValueError, match=f"^{folder} does not hold a vocabulary"):
            Vocabulary.load(folder)
