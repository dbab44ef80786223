"""Text <-> ids: nothing is lost, nothing in a text can pass for a mark."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
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
BUILT = {
    name: Vocabulary.train(TEXT, VocabularySettings(tokenizer=name, size=300)) for name in ("words", "spaces", "bpe")
}


@pytest.mark.parametrize("name", BUILT)
def test_text_comes_back_lower_case(name: str, tmp_path: Path) -> None:
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
    assert (loaded.spec, loaded.marks) == (vocabulary.spec, vocabulary.marks)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"tokenizer.json", "vocabulary.json"}
    assert Tokenizer.from_file(str(tmp_path / name / "tokenizer.json")).get_vocab_size() == len(vocabulary)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["the", "old", "dog", "cat", "runs", ",", ".", "?"]), max_size=11))
def test_any_sentence_of_known_words_comes_back(words: list[str]) -> None:
    sentence = " ".join(words)
    for vocabulary in BUILT.values():
        assert vocabulary.decode(vocabulary.encode([sentence])) == [sentence]


def test_case_is_kept_where_asked() -> None:
    vocabulary = Vocabulary.train(["The the THE"], VocabularySettings(tokenizer="spaces", lowercase=False))
    assert vocabulary.decode(vocabulary.encode(["THE the The"])) == ["THE the The"]
    assert len(vocabulary) == 4 + 3


def test_spaces_alone_part_words_where_the_text_is_tokenised() -> None:
    vocabulary = Vocabulary.train(["do n't stop ...", "stop"], VocabularySettings(tokenizer="spaces"))
    assert len(vocabulary.encode(["do n't stop ..."])[0]) == 4


def test_the_commonest_words_are_kept_within_the_size() -> None:
    vocabulary = Vocabulary.train(["a a a b b c"], VocabularySettings(tokenizer="spaces", size=6))
    assert len(vocabulary) == 6
    assert vocabulary.decode(vocabulary.encode(["a b c d"])) == ["a b <unk> <unk>"]


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("mark", ["<pad>", "<s>", "</s>"])
def test_text_that_spells_a_mark_gets_the_unknown_mark(name: str, mark: str) -> None:
    vocabulary = BUILT[name]
    (row,) = vocabulary.encode([f"the {mark} dog"])
    assert not {vocabulary.pad, vocabulary.start, vocabulary.end} & set(row)
    assert vocabulary.unknown in row
    assert vocabulary.decode([row])[0].split()[-1] == "dog"


@pytest.mark.parametrize("name", BUILT)
def test_a_corpus_that_spells_marks_gives_ids_within_the_vocabulary(name: str) -> None:
    """Penn Treebank and WikiText write <unk> themselves."""
    text = [*TEXT, "the <unk> dog </s> <UNK> cat <pad>", "<s> a cat <S>"]
    vocabulary = Vocabulary.train(text, VocabularySettings(tokenizer=name, size=300))
    rows = vocabulary.encode([*text, "unheard-of words"])
    assert max(i for row in rows for i in row) < len(vocabulary)
    marks = (vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown)
    assert sorted(marks) == [0, 1, 2, 3]
    assert "<unk>" in vocabulary.decode(rows)[4]


def test_marks_are_left_out_of_what_is_decoded() -> None:
    vocabulary = BUILT["words"]
    (row,) = vocabulary.encode(["the dog"])
    marked = [vocabulary.start, *row, vocabulary.unknown, vocabulary.end, vocabulary.pad]
    assert vocabulary.decode([marked, [], [vocabulary.end]]) == ["the dog <unk>", "", ""]
    assert vocabulary.decode([]) == [] == vocabulary.encode([])


@pytest.mark.parametrize("text", [[], [""], ["the the the"]])
@pytest.mark.parametrize("name", ["words", "spaces"])
def test_fewer_than_two_words_are_refused(name: str, text: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^the training text has [01] different words; .* at least 2"):
        Vocabulary.train(text, VocabularySettings(tokenizer=name))


def bert(path: Path) -> Tokenizer:
    """A word-piece tokenizer with BERT's marks, which it adds by itself, cuts and pads."""
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
    return tokenizer


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_pretrained_tokenizer_keeps_its_own_marks(as_folder: bool, tmp_path: Path) -> None:
    bert(tmp_path / "tokenizer.json")
    source = tmp_path if as_folder else tmp_path / "tokenizer.json"
    vocabulary = Vocabulary.train(iter(()), VocabularySettings(tokenizer=str(source)))
    assert (vocabulary.pad, vocabulary.unknown, vocabulary.start, vocabulary.end) == (0, 1, 2, 3)
    assert len(vocabulary) == 10
    rows = vocabulary.encode(["the dog runs.", "the [SEP] cat", "dog"])
    assert rows == [[5, 6, 7, 8, 9], [5, 1, 1], [6]], "no marks added, nothing cut, nothing padded"
    assert vocabulary.decode(rows[:1]) == ["the dog runs."]
    vocabulary.save(tmp_path / "saved")
    assert Vocabulary.load(tmp_path / "saved").encode(["the dog runs."]) == rows[:1]


@pytest.mark.parametrize("holes", [False, True])
def test_a_pretrained_tokenizer_without_marks_gets_them(holes: bool, tmp_path: Path) -> None:
    words = {"the": 0, "dog": 1, "?": 9 if holes else 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "bare.json"))
    vocabulary = Vocabulary.train([], VocabularySettings(tokenizer=str(tmp_path / "bare.json")))
    marks = {vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown}
    rows = vocabulary.encode(["the dog", "the </s> ?"])
    assert len(marks) == 4 and not marks & set(words.values())
    assert max(max(marks), *(i for row in rows for i in row)) < len(vocabulary)
    assert rows == [[0, 1], [0, vocabulary.unknown, words["?"]]]


def test_a_tokenizer_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for source in (tmp_path / "no" / "such.json", tmp_path / "broken.json"):
        with pytest.raises(ValueError, match=r"^vocabulary\.tokenizer must be") as caught:
            Vocabulary.train(TEXT, VocabularySettings(tokenizer=str(source)))
        assert repr(str(source)) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^vocabulary\.tokenizer: the folder .* has no tokenizer\.json$"):
        Vocabulary.train(TEXT, VocabularySettings(tokenizer=str(tmp_path)))
    with pytest.raises(ValueError, match=r"^vocabulary\.tokenizer: there is no 'wrods'; did you mean words\?$"):
        Vocabulary.train(TEXT, VocabularySettings(tokenizer="wrods"))


def test_without_a_network_a_name_is_one_clear_line(tmp_path: Path) -> None:
    program = (
        "from arae_core.settings import VocabularySettings as S\nfrom arae_core.data.vocabulary import Vocabulary\n"
        "try: Vocabulary.train([], S(tokenizer='some/name'))\nexcept ValueError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True)
    (line,) = run.stdout.splitlines()
    assert line.startswith("vocabulary.tokenizer must be") and "'some/name'" in line and "a local copy" in line


def test_a_folder_that_holds_no_vocabulary_is_refused_by_name(tmp_path: Path) -> None:
    BUILT["words"].save(tmp_path / "v")
    (tmp_path / "v" / "vocabulary.json").write_text(json.dumps({"pad": "<nothing>"}))
    for folder in (tmp_path / "v", tmp_path / "absent"):
        with pytest.raises(ValueError, match=f"^{folder} does not hold a vocabulary"):
            Vocabulary.load(folder)
