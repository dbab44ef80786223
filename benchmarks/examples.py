"""Examples to measure on: sentences of a file, or synthetic examples that cost as much as real ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import ImageStore, Store, TokenStore
from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import Settings

SNLI_LENGTHS = (0, 0, 578, 2152, 4662, 7508, 10898, 11463, 9661, 8890, 7534, 6360, 5182, 4196, 3524)
"""Number of distinct SNLI sentences with 1, 2, ... 15 tokens. The mean is 9.2 tokens."""
SYNTHETIC_EXAMPLES = 20_000
IMAGE_SIZE, WHITE = (28, 28), 0.13
"""MNIST's size, and its share of white pixels."""
SPECIAL_TOKENS = 4
"""Entries of a vocabulary that are not words."""


def examples(settings: Settings, data: Path | None) -> tuple[Store, DataSpec, Vocabulary | None]:
    """Return examples of the settings' kind, what a model must know of them, and the vocabulary of sentences.

    data: file with a sentence per line, or a folder with train.txt. If None, the examples are synthetic.

    Raise ValueError if the file cannot be read or has fewer than batch_size sentences of suitable length.
    """
    if settings.kind == "image":
        if data is not None:
            raise ValueError(f"data must not be given for images, which are synthetic here; got {data}")
        height, width = IMAGE_SIZE
        pixels = np.random.default_rng(settings.seed).random((SYNTHETIC_EXAMPLES, height * width), np.float32)
        return ImageStore((pixels < WHITE).astype(np.uint8), height, width), ImageSpec(height, width), None
    sentences = synthetic_sentences(settings, SYNTHETIC_EXAMPLES) if data is None else _read(data)
    vocabulary = Vocabulary.train(sentences, settings.vocabulary)
    rows = [row for row in vocabulary.encode(sentences) if 0 < len(row) <= settings.longest]
    if len(rows) < settings.batch_size:
        raise ValueError(
            f"data must hold {settings.batch_size} or more sentences (batch_size) of up to {settings.longest} tokens, "
            f"got {len(rows)}"
        )
    spec = TextSpec(len(vocabulary), vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown)
    return TokenStore.from_rows(rows), spec, vocabulary


def synthetic_sentences(settings: Settings, count: int) -> list[str]:
    """Return `count` sentences with the lengths of SNLI, up to `longest`.

    Their words follow Zipf's law and fill the vocabulary.
    """
    rng = np.random.default_rng(settings.seed)
    weights = np.array(SNLI_LENGTHS[: settings.longest], float)
    weights = weights if weights.any() else np.ones(len(weights))
    lengths = rng.choice(np.arange(1, len(weights) + 1), count, p=weights / weights.sum())
    words = max(2, settings.vocabulary.size - SPECIAL_TOKENS)
    drawn = rng.choice(words, lengths.sum(), p=zipf(words))
    drawn[:words] = rng.permutation(words)[: len(drawn)]
    return [" ".join(f"w{word}" for word in row) for row in np.split(drawn, np.cumsum(lengths)[:-1])]


def zipf(words: int) -> NDArray[np.float64]:
    """Return the probabilities of `words` words under Zipf's law."""
    frequency = 1 / np.arange(1, words + 1)
    return np.asarray(frequency / frequency.sum())


def _read(path: Path) -> list[str]:
    path = path / "train.txt" if path.is_dir() else path
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"data must be a text file, or a folder with train.txt: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"data must be UTF-8 text, got {path}") from None
