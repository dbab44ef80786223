"""Text <-> ids, on Hugging Face tokenizers: word level, byte-level BPE, or any pretrained tokenizer."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from arae_core.data.data_spec import TextSpec
from arae_core.settings import TOKENIZERS, VocabularySettings

MARKS = {"pad": "<pad>", "start": "<s>", "end": "</s>", "unknown": "<unk>"}
PRETRAINED_MARKS = {
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "start": ("<s>", "[CLS]", "<bos>", "<|startoftext|>"),
    "end": ("</s>", "[SEP]", "<eos>", "<|endoftext|>"),
    "unknown": ("<unk>", "[UNK]"),
}


class Vocabulary:
    """A tokenizer and its four marks: `pad`, `start`, `end` and `unknown` are ids, `len(vocabulary)` counts all ids."""

    def __init__(self, tokenizer: Tokenizer, marks: dict[str, str]):
        self.tokenizer = tokenizer
        self.marks = marks
        ids = {name: tokenizer.token_to_id(mark) for name, mark in marks.items()}
        missing = [marks[name] for name, i in ids.items() if i is None]
        if missing:
            raise ValueError(f"the tokenizer has no entry for {', '.join(missing)}")
        self.pad, self.start, self.end, self.unknown = (ids[name] or 0 for name in ("pad", "start", "end", "unknown"))

    def __len__(self) -> int:
        # not the number of entries: a pretrained tokenizer's ids may have gaps
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def train(cls, sentences: Iterable[str], settings: VocabularySettings) -> "Vocabulary":
        """Build a vocabulary from training sentences, or load a pretrained tokenizer, which ignores them.

        Raises ValueError where the sentences hold fewer than two different words, or the tokenizer cannot be had.
        """
        if settings.tokenizer not in TOKENIZERS:
            return cls._pretrained(settings.tokenizer)
        marks = list(MARKS.values())
        trainer: WordLevelTrainer | BpeTrainer
        if settings.tokenizer == "bpe":
            tokenizer = Tokenizer(BPE(unk_token=MARKS["unknown"]))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = BpeTrainer(vocab_size=settings.size, special_tokens=marks, show_progress=False)
        else:
            tokenizer = Tokenizer(WordLevel(unk_token=MARKS["unknown"]))
            words = settings.tokenizer == "words"
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace() if words else pre_tokenizers.WhitespaceSplit()
            trainer = WordLevelTrainer(vocab_size=settings.size, special_tokens=marks, show_progress=False)
        if settings.lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        # text may spell out a mark (Penn Treebank has <unk>): the trainer would count it as a word of its own
        without = re.compile("|".join(map(re.escape, marks)), re.IGNORECASE if settings.lowercase else re.NOFLAG)
        tokenizer.train_from_iterator((without.sub(" ", sentence) for sentence in sentences), trainer)
        vocabulary = cls(tokenizer, dict(MARKS))
        if len(vocabulary) < len(MARKS) + 2:
            found = len(vocabulary) - len(MARKS)
            raise ValueError(f"the training text has {found} different words; an autoencoder needs at least 2")
        return vocabulary

    @classmethod
    def _pretrained(cls, source: str) -> "Vocabulary":
        path = Path(source)
        if path.is_dir() and not (path / "tokenizer.json").is_file():
            raise ValueError(f"vocabulary.tokenizer: the folder {source} has no tokenizer.json")
        path = path / "tokenizer.json" if path.is_dir() else path
        if near := [] if path.exists() else difflib.get_close_matches(source, TOKENIZERS, n=1):
            raise ValueError(f"vocabulary.tokenizer: there is no {source!r}; did you mean {near[0]}?")
        try:
            tokenizer = Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(source)
        except Exception as error:  # the library raises bare Exception for a bad file, an unknown name and no network
            raise ValueError(
                f"vocabulary.tokenizer must be words, spaces, bpe, a tokenizer.json or the name of one that can be "
                f"downloaded, got {source!r} ({str(error).splitlines()[0]}); a local copy is named by its path"
            ) from None
        marks = {}
        for name, candidates in PRETRAINED_MARKS.items():
            present = [mark for mark in candidates if tokenizer.token_to_id(mark) is not None]
            marks[name] = present[0] if present else MARKS[name]
            if not present:
                tokenizer.add_special_tokens([MARKS[name]])
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, marks)

    @property
    def spec(self) -> TextSpec:
        return TextSpec(len(self), self.pad, self.start, self.end, self.unknown)

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, without marks; the unknown mark stands for what is not in the vocabulary.

        A sentence that spells out a mark ("</s>") gets the unknown mark there: text cannot end a sentence early.
        """
        encodings = self.tokenizer.encode_batch(list(sentences), add_special_tokens=False)
        structural = {self.pad, self.start, self.end}
        rows = [encoding.ids for encoding in encodings]
        return [
            row if structural.isdisjoint(row) else [self.unknown if i in structural else i for i in row] for row in rows
        ]

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """One line of text for each row of ids; pad, start and end marks are left out, the unknown mark is kept."""
        structural = {self.pad, self.start, self.end}
        # most rows have no marks in them, which one look at a row tells faster than one at each of its words
        kept = [[*row] if structural.isdisjoint(row) else [i for i in row if i not in structural] for row in rows]
        texts = self.tokenizer.decode_batch(kept, skip_special_tokens=False)
        return [" ".join(text.split()) for text in texts]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json (the tokenizers library's own format) and vocabulary.json (which are the marks)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "vocabulary.json").write_text(json.dumps(self.marks, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read what `save` wrote. Raises ValueError naming the folder where it is not that."""
        try:
            marks = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), {name: str(marks[name]) for name in MARKS})
        except Exception as error:  # see _pretrained
            raise ValueError(f"{folder} does not hold a vocabulary: {error}") from None
