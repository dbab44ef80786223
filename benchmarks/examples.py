"""What the throughput is measured on: a text file, or synthetic examples that cost as much as real ones."""

from pathlib import Path

import numpy as np

from arae_core.data.batches import ImageStore, Store, TokenStore
from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import Settings

SNLI_LENGTHS = (0, 0, 578, 2152, 4662, 7508, 10898, 11463, 9661, 8890, 7534, 6360, 5182, 4196, 3524)
"""Sentences of 1, 2, ... 15 tokens among the distinct ones of SNLI: 9.2 tokens on average."""
SYNTHETIC_EXAMPLES = 20_000
IMAGE_SIZE, WHITE = (28, 28), 0.13
"""MNIST's size, and its share of white pixels."""


def examples(settings: Settings, data: Path | None) -> tuple[Store, DataSpec, Vocabulary | None]:
    """The sentences of a file (or of train.txt in a folder), one a line, or synthetic examples of the settings' kind.

    Raises ValueError where the file cannot be read or leaves too little.
    """
    if settings.kind == "image":
        if data is not None:
            raise ValueError(f"data must not be given for images, which are measured on synthetic ones; got {data}")
        height, width = IMAGE_SIZE
        pixels = np.random.default_rng(settings.seed).random((SYNTHETIC_EXAMPLES, height * width), np.float32)
        return ImageStore((pixels < WHITE).astype(np.uint8), height, width), ImageSpec(height, width), None
    sentences = synthetic_sentences(settings) if data is None else _read(data)
    vocabulary = Vocabulary.train(sentences, settings.vocabulary)
    rows = [row for row in vocabulary.encode(sentences) if 0 < len(row) <= settings.longest]
    if len(rows) < settings.batch_size:
        raise ValueError(
            f"data must hold {settings.batch_size} or more sentences (batch_size) of up to {settings.longest} tokens, "
            f"got {len(rows)}"
        )
    spec = TextSpec(len(vocabulary), vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown)
    return TokenStore.from_rows(rows), spec, vocabulary


def synthetic_sentences(settings: Settings, count: int = SYNTHETIC_EXAMPLES) -> list[str]:
    """Sentences with SNLI's lengths, up to `longest`, whose words follow Zipf's law and fill the vocabulary."""
    rng = np.random.default_rng(settings.seed)
    weights = np.array(SNLI_LENGTHS[: settings.longest], float)
    weights = weights if weights.any() else np.ones(len(weights))
    lengths = rng.choice(np.arange(1, len(weights) + 1), count, p=weights / weights.sum())
    words = max(2, settings.vocabulary.size - 4)  # the marks are entries as well
    frequency = 1 / np.arange(1, words + 1)
    drawn = rng.choice(words, lengths.sum(), p=frequency / frequency.sum())
    drawn[:words] = rng.permutation(words)[: len(drawn)]
    return [" ".join(f"w{word}" for word in row) for row in np.split(drawn, np.cumsum(lengths)[:-1])]


def _read(path: Path) -> list[str]:
    path = path / "train.txt" if path.is_dir() else path
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"data must be a text file, or a folder with train.txt: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"data must be UTF-8 text, got {path}") from None
