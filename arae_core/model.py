"""`Model`: a trained ARAE in use. Generate, encode, decode, reconstruct, interpolate, transfer an attribute.

Shapes: N examples, D numbers in a code, H x W pixels, V entries of the vocabulary.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.codecs import ImageDecoder, TextDecoder
from arae_core.codes.paths import great_circle
from arae_core.data.batches import ImageStore, Store, TextBatch, TokenStore, make_batch
from arae_core.data.data_spec import ImageSpec, TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.decoding import decode_images, decode_sentences, most_probable_classes
from arae_core.runtime.precision import lstm_runs_in_bfloat16
from arae_core.settings import MOST_CONTRAST, Settings
from arae_core.settings.checks import at_least, between, require
from arae_core.training.checkpoint import load_checkpoint, save_checkpoint
from arae_core.training.state import TrainingState

Images = NDArray[np.uint8]
Examples = Sequence[str] | Images
BATCH_SIZE, BATCH_SIZE_ON_GPU = 512, 4096
"""Examples that are read or written at a time if `batch_size` is not given."""


class Model:
    """A trained ARAE. Sentences are str, one line each; images are uint8[N, H, W] of 0 and 1."""

    def __init__(self, state: TrainingState, vocabulary: Vocabulary | None) -> None:
        self.state, self.vocabulary = state, vocabulary
        if state.settings.kind == "text" and vocabulary is None:
            raise ValueError("a model of sentences needs its vocabulary")

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> "Model":
        """Load a checkpoint folder. Raise ValueError as `load_checkpoint` does."""
        state, vocabulary, _ = load_checkpoint(Path(folder), device)
        return cls(state, vocabulary)

    def save(self, folder: str | Path) -> Path:
        """Save a checkpoint folder, atomically. Raise OSError if it cannot be written."""
        return save_checkpoint(Path(folder), self.state, self.vocabulary)

    @property
    def settings(self) -> Settings:
        """The settings that the model was trained with."""
        return self.state.settings

    @property
    def kind(self) -> str:
        """Kind of data: text or image."""
        return self.state.settings.kind

    def _batch_size(self, batch_size: int | None) -> int:
        """Examples in a batch: more on a GPU, where a step for many sentences takes no longer than for few."""
        if batch_size is None:
            return BATCH_SIZE_ON_GPU if self.state.device.type == "cuda" else BATCH_SIZE
        at_least("batch_size", batch_size, 1)
        return batch_size

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the attribute's values; empty if the model has no attribute."""
        return self.state.spec.classes if isinstance(self.state.spec, TextSpec) else ()

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width), or None for sentences."""
        spec = self.state.spec
        return (spec.height, spec.width) if isinstance(spec, ImageSpec) else None

    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float | None = None,
        attribute: str | None = None,
        batch_size: int | None = None,
    ) -> list[str] | Images:
        """Generate `count` examples from noise.

        temperature: 0 takes the most probable word or pixel, > 0 draws; by default as in the model's settings.
        attribute: the class of all examples; by default, a model with classes takes each in turn.
        batch_size: examples at a time; draws depend on it.

        Raise ValueError for count < 0, temperature < 0 and an unknown attribute.
        """
        return self._examples(self._generated(count, seed, temperature, attribute, batch_size))

    def generate_ids(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float | None = None,
        attribute: str | None = None,
        batch_size: int | None = None,
    ) -> list[list[int]]:
        """Like `generate`, as token ids without special tokens. For models of sentences."""
        return self._generated(count, seed, temperature, attribute, batch_size)

    def _generated(
        self, count: int, seed: int, temperature: float | None, attribute: str | None, batch_size: int | None
    ) -> list[Any]:
        temperature = self.settings.temperature if temperature is None else temperature
        if attribute is not None:
            self._labels([attribute])  # an unknown one is an error for no examples, too
        labels = self._labels_in_turn(count) if attribute is None else self._labels([attribute] * count)
        written: list[Any] = []
        for code, draws in self._sampled(count, seed, temperature, batch_size):
            written += self._decoded(code, temperature, draws, None if labels is None else labels[len(written) :])
        return written

    def reconstruct(
        self, examples: Examples, *, temperature: float = 0.0, seed: int = 0, batch_size: int | None = None
    ) -> list[str] | Images:
        """Encode and decode each example. Sentences longer than `longest` are read whole and written cut.

        A model with classes decodes each sentence with its most probable class. Text without tokens stays empty.
        """
        return self._through(examples, None, temperature, seed, batch_size)

    def transfer(
        self,
        sentences: Sequence[str],
        attribute: str | Sequence[str],
        *,
        temperature: float = 0.0,
        contrast: float | None = None,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> list[str]:
        """Encode each sentence and decode it with another attribute (paper, section 4).

        Text without tokens stays empty. attribute: the class of all sentences, or one for each.
        contrast: penalty on words that the other classes also predict, see `decode_sentences`; by default
        decoder.contrast of the model.

        Raise ValueError for an unknown attribute, for a model without one, and if there are more or fewer attributes
        than sentences.
        """
        contrast = self.settings.decoder.contrast if contrast is None else contrast
        between("contrast", contrast, 0, MOST_CONTRAST)
        wanted = [attribute] * len(sentences) if isinstance(attribute, str) else attribute
        require(len(wanted) == len(sentences), "attribute", len(wanted), f"one, or one for each of {len(sentences)}")
        written = self._through(sentences, self._labels(wanted), temperature, seed, batch_size, contrast=contrast)
        assert isinstance(written, list)
        return written

    def offset(self, from_like: Sequence[str], to_like: Sequence[str]) -> NDArray[np.float32]:
        """The mean code of `to_like` minus that of `from_like`, float32[D].

        Raise ValueError if one of them is empty, or a sentence has no tokens.
        """
        if not from_like or not to_like:
            raise ValueError("an offset needs at least one sentence on either side")
        difference: NDArray[np.float32] = self.encode(to_like).mean(0) - self.encode(from_like).mean(0)
        return difference

    def shift(
        self,
        sentences: Sequence[str],
        offset: NDArray[np.float32],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> list[str]:
        """Decode each sentence from its code plus `offset`[D], mapped back to the code space.

        For models trained without labels; one with classes keeps each sentence's class. Text without tokens stays
        empty.
        """
        require(offset.shape == (self.settings.code.size,), "offset", offset.shape, f"({self.settings.code.size},)")
        shift = torch.from_numpy(offset).to(self.state.device)
        written = self._through(sentences, None, temperature, seed, batch_size, shift)
        assert isinstance(written, list)
        return written

    def most_probable_class(self, sentences: Sequence[str], batch_size: int | None = None) -> list[str]:
        """The class y with the greatest p(x | c, y), for each sentence. Raise ValueError without an attribute."""
        require(bool(self.classes), "the model", "no classes", "one with an attribute")
        store = self._store(sentences)
        assert isinstance(store, TokenStore)
        return [self.classes[int(y)] for y in self._most_probable(store, batch_size)]

    def _through(
        self,
        examples: Examples,
        labels: Tensor | None,
        temperature: float,
        seed: int,
        batch_size: int | None,
        shift: Tensor | None = None,
        contrast: float = 0.0,
    ) -> list[str] | Images:
        at_least("temperature", temperature, 0)
        store, order = self._store(examples), np.arange(len(examples))
        if labels is None and self.classes and isinstance(store, TokenStore):
            labels = self._most_probable(store, batch_size)
        if isinstance(store, TokenStore):
            order = _shortest_first(store)
        draws = torch.Generator(self.state.device).manual_seed(seed)
        written: list[Any] = [[] for _ in range(len(store))]
        for part in _parts(order, self._batch_size(batch_size)):
            code = self._encoded(store, part)
            if shift is not None:
                code = self.state.code(code + shift)
            own = None if labels is None else labels[torch.from_numpy(part)]
            for i, example in zip(part, self._decoded(code, temperature, draws, own, contrast), strict=True):
                written[i] = example
        return self._examples(written)

    def interpolate(self, first: str | Images, second: str | Images, steps: int) -> list[str] | Images:
        """Decode `steps` points on the path between two examples' codes, both ends included.

        The path is that of the code space: a great circle on the sphere, else a straight line. With classes, the first
        half has the first example's class, the rest the second one's. Images are uint8[H, W].
        Raise ValueError for steps < 2 and for a sentence without tokens.
        """
        if isinstance(first, str) and isinstance(second, str):
            pair: Examples = [first, second]
        elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            pair = np.stack([first, second])
        else:
            raise ValueError("both ends of an interpolation must be sentences, or both images")
        store = self._store(pair)
        _require_tokens(store)
        codes = self._encoded(store, np.arange(2))
        path = self.state.code.path(codes[0], codes[1], steps)
        if self.classes and isinstance(store, TokenStore):
            return self._greedy(path, self._most_probable(store, 2)[(torch.arange(steps) >= steps / 2).long()])
        return self._greedy(path)

    def interpolate_noise(self, steps: int, *, seed: int = 0) -> list[str] | Images:
        """Decode `steps` points between two draws of noise, on the great circle through both; with classes, all with
        the first one. Raise ValueError for steps < 2."""
        noise = self._noise(2, torch.Generator(self.state.device).manual_seed(seed))
        path = great_circle(noise[0], noise[1], steps)
        self.state.modules.eval()
        labels = torch.zeros(steps, dtype=torch.long) if self.classes else None
        with torch.no_grad():
            return self._greedy(self.state.sampler(path), labels)

    def encode(self, examples: Examples, batch_size: int | None = None) -> NDArray[np.float32]:
        """Encode examples: float32[N, D]. Raise ValueError for a sentence without tokens."""
        store = self._store(examples)
        _require_tokens(store)
        return self.encode_store(store, np.arange(len(examples)), batch_size)

    def encode_store(self, store: Store, rows: NDArray[np.int64], batch_size: int | None = None) -> NDArray[np.float32]:
        """Encode the examples at rows[N] of a store: float32[N, D]."""
        codes = [self._encoded(store, part) for part in _parts(rows, self._batch_size(batch_size))]
        return self._concatenated(codes)

    def sample_codes(self, count: int, *, seed: int = 0) -> NDArray[np.float32]:
        """Draw the codes that `generate` decodes: float32[count, D]."""
        codes = [code for code, _ in self._sampled(count, seed, 0.0, 512)]
        return self._concatenated(codes)

    def _concatenated(self, codes: list[Tensor]) -> NDArray[np.float32]:
        result = torch.cat(codes) if codes else torch.zeros(0, self.settings.code.size)
        return result.float().cpu().numpy()

    def decode(
        self,
        codes: NDArray[np.float32],
        *,
        temperature: float = 0.0,
        attribute: str | Sequence[str] | None = None,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> list[str] | Images:
        """Decode codes float32[N, D], as `encode` and `sample_codes` return them.

        attribute: the class of all, or one for each; needed by a model with classes, and by no other.
        Raise ValueError for codes of another size, temperature < 0 and a wrong attribute.
        """
        require(codes.ndim == 2 and codes.shape[1] == self.settings.code.size, "codes", codes.shape, self._code_shape)
        at_least("temperature", temperature, 0)
        wanted = [attribute] * len(codes) if isinstance(attribute, str) else attribute
        require(
            (wanted is not None) == bool(self.classes), "attribute", attribute, "given for a model with classes alone"
        )
        labels = None if wanted is None else self._labels(wanted)
        draws = torch.Generator(self.state.device).manual_seed(seed)
        written: list[Any] = []
        for part in torch.from_numpy(codes).to(self.state.device, self.state.dtype).split(self._batch_size(batch_size)):
            written += self._decoded(part, temperature, draws, None if labels is None else labels[len(written) :])
        return self._examples(written)

    @property
    def _code_shape(self) -> str:
        return f"of shape (N, {self.settings.code.size})"

    def encode_text(self, sentences: Sequence[str]) -> list[list[int]]:
        """Token ids of sentences. Raise ValueError for a model of images."""
        if self.vocabulary is None:
            raise ValueError("this is a model of images; it reads no sentences")
        return self.vocabulary.encode(sentences)

    def _store(self, examples: Examples) -> Store:
        if isinstance(examples, np.ndarray):
            if self.image_size is None:
                raise ValueError("this is a model of sentences; it reads no images")
            if examples.shape[1:] != self.image_size:
                raise ValueError(f"images must be {self.image_size} pixels, got {examples.shape[1:]}")
            if not np.isin(examples, (0, 1)).all():
                raise ValueError(f"pixels must be 0 or 1, got up to {examples.max()}")
            return ImageStore(
                examples.reshape(len(examples), self.image_size[0] * self.image_size[1]), *self.image_size
            )
        return TokenStore.from_rows(self.encode_text(examples))

    @torch.no_grad()
    def _encoded(self, store: Store, rows: NDArray[np.int64]) -> Tensor:
        self.state.modules.eval()
        return self.state.encode_mixed(make_batch(store, rows, self.state.spec, self.state.device))

    def _noise(self, count: int, draws: torch.Generator) -> Tensor:
        size = self.state.prior.noise_size
        return torch.randn(count, size, generator=draws, device=self.state.device, dtype=self.state.dtype)

    def _sampled(
        self, count: int, seed: int, temperature: float, batch_size: int | None
    ) -> list[tuple[Tensor, torch.Generator]]:
        if count < 0:
            raise ValueError(f"count must be >= 0, got {count}")
        at_least("temperature", temperature, 0)
        draws = torch.Generator(self.state.device).manual_seed(seed)
        self.state.modules.eval()
        with torch.no_grad():
            codes = self.state.sampler(self._noise(count, draws))
        return [(code, draws) for code in codes.split(self._batch_size(batch_size))] if count else []

    def _decoded(
        self,
        code: Tensor,
        temperature: float,
        draws: torch.Generator,
        labels: Tensor | None = None,
        contrast: float = 0.0,
    ) -> list[Any]:
        """The token ids of a sentence, or the pixels uint8[H, W] of an image, for each row of code[N, D].

        labels: classes; the first N are used.
        """
        self.state.modules["decoder"].eval()
        if self.image_size is not None:
            pixels = decode_images(cast(ImageDecoder, self.state.decoder), code, temperature, draws)
            return list(pixels.reshape(-1, *self.image_size))
        spec, decoder = self.state.spec, cast(TextDecoder, self.state.decoder)
        assert isinstance(spec, TextSpec)
        own = None if labels is None else labels[: len(code)]
        with self._precision():
            return decode_sentences(decoder, code, own, spec, self.settings.longest, temperature, draws, contrast)

    def _greedy(self, code: Tensor, labels: Tensor | None = None) -> list[str] | Images:
        """Decode code[N, D] greedily."""
        return self._examples(self._decoded(code, 0.0, torch.Generator(self.state.device), labels))

    def _examples(self, written: list[Any]) -> list[str] | Images:
        """Sentences, or images uint8[N, H, W], from what `_decoded` returned."""
        if self.vocabulary is not None:
            return self.vocabulary.decode(written)
        assert self.image_size is not None
        return np.stack(written) if written else np.zeros((0, *self.image_size), np.uint8)

    def _precision(self) -> AbstractContextManager[Any]:
        """The precision that training would have here, if this device can run it."""
        runs = lstm_runs_in_bfloat16(self.state.device.type)
        return self.state.autocast() if runs else nullcontext()

    def _most_probable(self, store: TokenStore, batch_size: int | None) -> Tensor:
        """The class of each sentence, [N], under which it is most probable."""
        decoder = cast(TextDecoder, self.state.decoder)
        found = torch.zeros(len(store), dtype=torch.long)
        for part in _parts(_shortest_first(store), self._batch_size(batch_size)):
            batch, code = make_batch(store, part, self.state.spec, self.state.device), self._encoded(store, part)
            assert isinstance(batch, TextBatch)
            found[torch.from_numpy(part)] = most_probable_classes(decoder, batch, code, len(self.classes))
        return found

    def _labels(self, attributes: Sequence[str]) -> Tensor:
        """Numbers of named classes. Raise ValueError for an unknown name."""
        for name in set(attributes):
            if name not in self.classes:
                known = f"one of {', '.join(self.classes)}" if self.classes else "left out: this model has no attribute"
                raise ValueError(f"the attribute must be {known}, got {name!r}")
        return torch.tensor([self.classes.index(name) for name in attributes], dtype=torch.long)

    def _labels_in_turn(self, count: int) -> Tensor | None:
        return torch.arange(max(count, 0)) % len(self.classes) if self.classes else None


def _shortest_first(store: TokenStore) -> NDArray[np.int64]:
    """Return the rows of the sentences that have tokens, in the order of their lengths."""
    order = np.argsort(store.lengths, kind="stable")
    return order[store.lengths[order] > 0]


def _require_tokens(store: Store) -> None:
    if isinstance(store, TokenStore) and not store.lengths.all():
        raise ValueError(f"sentence {int(np.argmin(store.lengths)) + 1} of {len(store)} has no tokens")


def _parts(rows: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Split rows[N] into parts of about batch_size, none of them empty."""
    return np.array_split(rows, -(-len(rows) // batch_size)) if len(rows) else []
