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

SPECIAL_TOKENS = {"pad": "<pad>", "start": "<s>", "end": "</s>", "unknown": "<unk>"}
PRETRAINED_TOKENS = {
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "start": ("<s>", "[CLS]", "<bos>", "<|startoftext|>"),
    "end": ("</s>", "[SEP]", "<eos>", "<|endoftext|>"),
    "unknown": ("<unk>", "[UNK]"),
}


UNKNOWN_TEXT = "\ue000\u0378"
"""A character for private use and one that is not assigned: no vocabulary has a token for them."""


class Vocabulary:
    """A tokenizer and the ids of its four special tokens: `pad`, `start`, `end`, `unknown`."""

    def __init__(self, tokenizer: Tokenizer, special_tokens: dict[str, str]):
        self.tokenizer = tokenizer
        self.special_tokens = special_tokens
        ids = {name: tokenizer.token_to_id(token) for name, token in special_tokens.items()}
        missing = [special_tokens[name] for name, i in ids.items() if i is None]
        if missing:
            raise ValueError(f"the tokenizer has no entry for {', '.join(missing)}")
        self.pad, self.start, self.end, self.unknown = (ids[name] or 0 for name in ("pad", "start", "end", "unknown"))

    def __len__(self) -> int:
        """Return the number of ids."""
        # More than the number of entries if a pretrained tokenizer's ids have gaps.
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def train(cls, sentences: Iterable[str], settings: VocabularySettings) -> "Vocabulary":
        """Build a vocabulary from training sentences, or load a pretrained tokenizer, which ignores them.

        Raise ValueError for fewer than two different words and for a tokenizer that cannot be loaded.
        """
        if settings.tokenizer not in TOKENIZERS:
            return cls._pretrained(settings.tokenizer)
        tokens = list(SPECIAL_TOKENS.values())
        trainer: WordLevelTrainer | BpeTrainer
        if settings.tokenizer == "bpe":
            tokenizer = Tokenizer(BPE(unk_token=SPECIAL_TOKENS["unknown"]))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = BpeTrainer(vocab_size=settings.size, special_tokens=tokens, show_progress=False)
        else:
            tokenizer = Tokenizer(WordLevel(unk_token=SPECIAL_TOKENS["unknown"]))
            words = settings.tokenizer == "words"
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace() if words else pre_tokenizers.WhitespaceSplit()
            trainer = WordLevelTrainer(vocab_size=settings.size, special_tokens=tokens, show_progress=False)
        if settings.lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        # Text may contain special tokens (Penn Treebank has <unk>), which the trainer would count as words.
        without = re.compile("|".join(map(re.escape, tokens)), re.IGNORECASE if settings.lowercase else re.NOFLAG)
        tokenizer.train_from_iterator((without.sub(" ", sentence) for sentence in sentences), trainer)
        vocabulary = cls(tokenizer, dict(SPECIAL_TOKENS))
        if len(vocabulary) < len(SPECIAL_TOKENS) + 2:
            found = len(vocabulary) - len(SPECIAL_TOKENS)
            raise ValueError(f"the training text has {found} different words; an autoencoder needs at least 2")
        return vocabulary

    @classmethod
    def _pretrained(cls, source: str) -> "Vocabulary":
        path = Path(source)
        if path.is_dir() and not (path / "tokenizer.json").is_file():
            raise ValueError(f"vocabulary.tokenizer is the folder {source}, which has no tokenizer.json")
        path = path / "tokenizer.json" if path.is_dir() else path
        if near := [] if path.exists() else difflib.get_close_matches(source, TOKENIZERS, n=1):
            raise ValueError(f"vocabulary.tokenizer must not be {source!r}, which is unknown; did you mean {near[0]}?")
        try:
            tokenizer = Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(source)
        except Exception as error:  # the library's error for a bad file, an unknown name and no network
            raise ValueError(
                f"vocabulary.tokenizer must be words, spaces, bpe, the path of a tokenizer.json or a name on the hub, "
                f"got {source!r} ({str(error).splitlines()[0]}); without a network, give the path of a local copy"
            ) from None
        own, tokens = cls._own_unknown(tokenizer, source), {}
        for name, candidates in PRETRAINED_TOKENS.items():
            if own:  # nothing else may be the unknown token: an unknown word would end a sentence, for example
                candidates = (own,) if name == "unknown" else tuple(token for token in candidates if token != own)
            present = [token for token in candidates if tokenizer.token_to_id(token) is not None]
            tokens[name] = present[0] if present else SPECIAL_TOKENS[name]
            if not present:
                tokenizer.add_special_tokens([SPECIAL_TOKENS[name]])
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, tokens)

    @staticmethod
    def _own_unknown(tokenizer: Tokenizer, source: str) -> str | None:
        """Return the token that a pretrained tokenizer gives unknown text; None if it has none, see `lost_characters`.

        Raise ValueError if the tokenizer fails at such text.
        """
        try:
            tokenizer.encode(UNKNOWN_TEXT)
        except Exception as error:  # the library's error
            raise ValueError(
                f"vocabulary.tokenizer: {source} fails at text that its vocabulary lacks ({str(error).splitlines()[0]})"
            ) from None
        model = json.loads(tokenizer.to_str())["model"]
        token = model.get("unk_token")
        if token is None and model.get("unk_id") is not None:
            token = model["vocab"][model["unk_id"]][0]
        return token if token is not None and tokenizer.token_to_id(token) is not None else None

    def lost_characters(self, texts: Iterable[str]) -> list[str]:
        """Return the characters of the texts that have no token and are dropped. Only a BPE tokenizer drops any."""
        model, normalizer, splitter = self.tokenizer.model, self.tokenizer.normalizer, self.tokenizer.pre_tokenizer
        if not isinstance(model, BPE) or model.unk_token is not None or model.byte_fallback:
            return []
        known = self.tokenizer.get_vocab(with_added_tokens=True)
        before, after = model.continuing_subword_prefix or "", model.end_of_word_suffix or ""

        def is_lost(character: str) -> bool:
            text = normalizer.normalize_str(character) if normalizer else character
            pieces = [piece for piece, _ in splitter.pre_tokenize_str(text)] if splitter else [text]
            units = set("".join(pieces)) - {"\u2581"}  # stands for a space
            return any(not {unit, before + unit, unit + after, before + unit + after} & known.keys() for unit in units)

        return sorted(character for character in set().union(*texts) if not character.isspace() and is_lost(character))

    @property
    def spec(self) -> TextSpec:
        """The facts that a model is built for."""
        return TextSpec(len(self), self.pad, self.start, self.end, self.unknown)

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the ids of each sentence, without special tokens but `unknown`, which replaces unknown words.

        Special tokens in a text, such as "</s>", are also read as unknown: text cannot end a sentence early.
        """
        encodings = self.tokenizer.encode_batch(list(sentences), add_special_tokens=False)
        structural = {self.pad, self.start, self.end}
        rows = [encoding.ids for encoding in encodings]
        return [
            row if structural.isdisjoint(row) else [self.unknown if i in structural else i for i in row] for row in rows
        ]

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Return one line of text for each row of ids. Of the special tokens, only `unknown` is kept."""
        structural = {self.pad, self.start, self.end}
        # One test of a row is faster than a test of each of its words, and most rows pass it.
        kept = [[*row] if structural.isdisjoint(row) else [i for i in row if i not in structural] for row in rows]
        texts = self.tokenizer.decode_batch(kept, skip_special_tokens=False)
        return [" ".join(text.split()) for text in texts]

    def save(self, folder: Path) -> None:
        """Save tokenizer.json (the format of the tokenizers library) and vocabulary.json (the special tokens)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "vocabulary.json").write_text(json.dumps(self.special_tokens, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Load a saved vocabulary. Raise ValueError, with the folder's name, if there is none."""
        try:
            tokens = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
            return cls(
                Tokenizer.from_file(str(folder / "tokenizer.json")),
                {name: str(tokens[name]) for name in SPECIAL_TOKENS},
            )
        except Exception as error:  # see _pretrained
            raise ValueError(f"{folder} does not hold a vocabulary: {error}") from None
