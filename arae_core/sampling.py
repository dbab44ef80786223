"""A trained ARAE to use: generate, reconstruct, interpolate, transfer an attribute, encode.

Shapes: N examples, D numbers in a code, H x W pixels, V entries of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.batches import ImageStore, Store, TextBatch, TokenStore, make_batch
from arae_core.checkpoint import load_checkpoint
from arae_core.code_space import to_sphere
from arae_core.config import ImageShape, Settings, TextShape, at_least
from arae_core.image import ImageDecoder
from arae_core.state import TrainingState
from arae_core.text import SeparateDecoders, TextDecoder
from arae_core.vocabulary import Vocabulary

Images = NDArray[np.uint8]
Examples = Sequence[str] | Images


@torch.no_grad()
def decode_text(
    decoder: TextDecoder, code: Tensor, shape: TextShape, longest: int, temperature: float, draws: torch.Generator
) -> list[list[int]]:
    """Words for what the decoder is fed, code[N, D'], greedy at temperature 0, else drawn; without marks, at most
    `longest` words.

    A row leaves the batch when it has ended. The pad and start marks are never chosen.
    """
    words = np.full((len(code), longest), shape.end, np.int64)
    rows = torch.arange(len(code), device=code.device)
    word = torch.full((len(code), 1), shape.start, device=code.device)
    state: tuple[Tensor, Tensor] | None = None
    for position in range(longest):
        hidden, state = decoder(word, code, state)
        logits = decoder.output(hidden[:, 0]).float()
        logits[:, [shape.pad, shape.start]] = -torch.inf
        word = logits.argmax(1, keepdim=True) if temperature == 0 else _drawn(logits, temperature, draws)
        words[rows.cpu().numpy(), position] = word[:, 0].cpu().numpy()
        going = (word[:, 0] != shape.end).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(rows):
            rows, word, code = rows[going], word[going], code[going]
            state = (state[0][:, going].contiguous(), state[1][:, going].contiguous())
    lengths = np.where((words == shape.end).any(1), (words == shape.end).argmax(1), longest)
    return [row[:length].tolist() for row, length in zip(words, lengths, strict=True)]


def _drawn(logits: Tensor, temperature: float, draws: torch.Generator) -> Tensor:
    """One column [N, 1] for each row of logits[N, V], by the inverse of the distribution function.

    `torch.multinomial` draws the same, 20 times slower on a CPU at 11,000 words.
    """
    temperature = max(temperature, 1e-6)  # colder is greedy, too, and no float32
    below = ((logits - logits.amax(1, keepdim=True)) / temperature).exp().cumsum(1)
    point = torch.rand(len(logits), 1, generator=draws, device=logits.device) * below[:, -1:]
    return torch.searchsorted(below, point, right=True).clamp_max(logits.shape[1] - 1)


class Model:
    """A trained ARAE. Sentences are str, one line each; images are uint8[N, H, W] of 0 and 1."""

    def __init__(self, state: TrainingState, vocabulary: Vocabulary | None):
        self.state, self.vocabulary = state, vocabulary
        if state.settings.kind == "text" and vocabulary is None:
            raise ValueError("a model of sentences needs its vocabulary")

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "Model":
        """Read a checkpoint. Raises ValueError as `load_checkpoint` does."""
        state, vocabulary, _ = load_checkpoint(Path(folder), device)
        return cls(state, vocabulary)

    @property
    def settings(self) -> Settings:
        return self.state.settings

    @property
    def kind(self) -> str:
        return self.state.settings.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the attribute's values; none where the model has no attribute."""
        return self.state.shape.classes if isinstance(self.state.shape, TextShape) else ()

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width), or None for sentences."""
        shape = self.state.shape
        return (shape.height, shape.width) if isinstance(shape, ImageShape) else None

    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float | None = None,
        attribute: str | None = None,
        batch_size: int = 512,
    ) -> list[str] | Images:
        """`count` new examples from noise. temperature 0: the most probable word or pixel; > 0: drawn; None: as the
        model's settings say. attribute: the class of all of them; None: of a model with classes, each in turn.

        Raises ValueError for count < 0, temperature < 0 and an unknown attribute.
        """
        temperature = self.settings.temperature if temperature is None else temperature
        if self.vocabulary is not None:
            rows = self.generate_ids(
                count, seed=seed, temperature=temperature, attribute=attribute, batch_size=batch_size
            )
            return self.vocabulary.decode(rows)
        parts = [
            self._decode_images(code, temperature, draws)
            for code, draws in self._sampled(count, seed, temperature, batch_size)
        ]
        return np.concatenate(parts) if parts else self._no_images()

    def generate_ids(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float | None = None,
        attribute: str | None = None,
        batch_size: int = 512,
    ) -> list[list[int]]:
        """As `generate`, as ids without marks."""
        temperature = self.settings.temperature if temperature is None else temperature
        labels = self._in_turn(count) if attribute is None else self._labels([attribute] * count)
        rows: list[list[int]] = []
        for code, draws in self._sampled(count, seed, temperature, batch_size):
            rows += self._decode_ids(code, temperature, draws, None if labels is None else labels[len(rows) :])
        return rows

    def reconstruct(
        self, examples: Examples, *, temperature: float = 0.0, seed: int = 0, batch_size: int = 512
    ) -> list[str] | Images:
        """Each example through its code and back. Sentences longer than `longest` are read whole, written cut.

        A model with classes writes each as of the class under which it is most probable.
        """
        return self._through(examples, None, temperature, seed, batch_size)

    def transfer(
        self,
        sentences: Sequence[str],
        attribute: str,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 512,
    ) -> list[str]:
        """Each sentence through its code, which does not tell its class, and back as one of class `attribute` (paper,
        section 4). Raises ValueError for an unknown attribute, and where the model has none."""
        labels = self._labels([attribute] * len(sentences))
        written = self._through(sentences, labels, temperature, seed, batch_size)
        assert isinstance(written, list)
        return written

    def transfer_each(self, sentences: Sequence[str], attributes: Sequence[str], batch_size: int = 512) -> list[str]:
        """As `transfer`, greedily, each sentence to an attribute of its own."""
        written = self._through(sentences, self._labels(attributes), 0.0, 0, batch_size)
        assert isinstance(written, list)
        return written

    def offset(self, from_like: Sequence[str], to_like: Sequence[str]) -> NDArray[np.float32]:
        """The mean code of `to_like` minus that of `from_like`, float32[D]: the direction of whatever tells them apart.

        Raises ValueError where one of them is empty.
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
        batch_size: int = 512,
    ) -> list[str]:
        """Each sentence decoded from its code plus `offset`[D], brought back to the unit sphere where codes lie there.

        For models trained without labels; one with classes keeps each sentence's class.
        """
        shift = torch.from_numpy(offset).to(self.state.device)
        written = self._through(sentences, None, temperature, seed, batch_size, shift)
        assert isinstance(written, list)
        return written

    def most_probable_class(self, sentences: Sequence[str], batch_size: int = 512) -> list[str]:
        """For each sentence the class y with the greatest p(x | c, y)."""
        store = self._store(sentences)
        assert isinstance(store, TokenStore)
        return [self.classes[int(y)] for y in self._likeliest(store, batch_size)]

    def _through(
        self,
        examples: Examples,
        labels: Tensor | None,
        temperature: float,
        seed: int,
        batch_size: int,
        shift: Tensor | None = None,
    ) -> list[str] | Images:
        at_least("temperature", temperature, 0)
        store, order = self._store(examples), np.arange(len(examples))
        if labels is None and self.classes and isinstance(store, TokenStore):
            labels = self._likeliest(store, batch_size)
        if isinstance(store, TokenStore):
            order = np.argsort(store.lengths, kind="stable")
        draws = torch.Generator(self.state.device).manual_seed(seed)
        texts: list[list[int]] = [[] for _ in order]
        images = [self._no_images()] if self.vocabulary is None else []
        for part in np.array_split(order, max(1, -(-len(order) // batch_size))) if len(order) else []:
            code = self._encoded(store, part)
            if shift is not None:
                code = to_sphere(code + shift) if self.settings.code.unit_sphere else code + shift
            if self.vocabulary is None:
                images.append(self._decode_images(code, temperature, draws))
            else:
                own = None if labels is None else labels[torch.from_numpy(part)]
                for i, row in zip(part, self._decode_ids(code, temperature, draws, own), strict=True):
                    texts[i] = row
        return np.concatenate(images) if self.vocabulary is None else self.vocabulary.decode(texts)

    def interpolate(self, first: str | Images, second: str | Images, steps: int) -> list[str] | Images:
        """`steps` examples on the great circle between two examples' codes, both ends included. With classes the first
        half is of the first one's, the rest of the second one's.

        Images are uint8[H, W]. On an unbounded code space (code.unit_sphere false) the line is straight.
        Raises ValueError for steps < 2.
        """
        if isinstance(first, str) and isinstance(second, str):
            pair: Examples = [first, second]
        elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            pair = np.stack([first, second])
        else:
            raise ValueError("both ends of an interpolation must be sentences, or both images")
        store = self._store(pair)
        codes = self._encoded(store, np.arange(2))
        path = _path(codes[0], codes[1], steps, self.settings.code.unit_sphere)
        if self.classes and isinstance(store, TokenStore):
            return self._decoded(path, self._likeliest(store, 2)[(torch.arange(steps) >= steps / 2).long()])
        return self._decoded(path)

    def interpolate_noise(self, steps: int, *, seed: int = 0) -> list[str] | Images:
        """`steps` examples between two draws of noise, on the great circle through both. ValueError for steps < 2."""
        noise = self._noise(2, torch.Generator(self.state.device).manual_seed(seed))
        path = _path(noise[0], noise[1], steps, True)
        self.state.modules.eval()
        labels = torch.zeros(steps, dtype=torch.long) if self.classes else None
        with torch.no_grad():
            return self._decoded(self.state.sampler(path), labels)

    def encode(self, examples: Examples, batch_size: int = 512) -> NDArray[np.float32]:
        """The codes, float32[N, D]."""
        store = self._store(examples)
        parts = np.array_split(np.arange(len(examples)), max(1, -(-len(examples) // batch_size)))
        codes = [self._encoded(store, part) for part in parts if len(part)]
        result = torch.cat(codes) if codes else torch.zeros(0, self.settings.code.size)
        return result.float().cpu().numpy()

    def encode_store(self, store: Store, rows: NDArray[np.int64], batch_size: int = 512) -> NDArray[np.float32]:
        """The codes of the examples at rows[N], float32[N, D]."""
        parts = np.array_split(rows, max(1, -(-len(rows) // batch_size)))
        codes = torch.cat([self._encoded(store, part) for part in parts])
        return codes.float().cpu().numpy()

    def sample_codes(self, count: int, *, seed: int = 0) -> NDArray[np.float32]:
        """The codes that `generate` decodes, float32[count, D]."""
        codes = torch.cat([code for code, _ in self._sampled(count, seed, 0.0, 512)])
        return codes.float().cpu().numpy()

    def encode_text(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of sentences. Raises ValueError where the model is one of images."""
        if self.vocabulary is None:
            raise ValueError("the model is one of images; it reads no sentences")
        return self.vocabulary.encode(sentences)

    def _store(self, examples: Examples) -> Store:
        if isinstance(examples, np.ndarray):
            if self.image_size is None:
                raise ValueError("the model is one of sentences; it reads no images")
            if examples.shape[1:] != self.image_size:
                raise ValueError(f"images must be {self.image_size} pixels, got {examples.shape[1:]}")
            return ImageStore(
                examples.reshape(len(examples), self.image_size[0] * self.image_size[1]), *self.image_size
            )
        return TokenStore.from_rows(self.encode_text(examples))

    @torch.no_grad()
    def _encoded(self, store: Store, rows: NDArray[np.int64]) -> Tensor:
        self.state.modules.eval()
        return self.state.encoder.encode_mixed(make_batch(store, rows, self.state.shape, self.state.device), 4)

    def _noise(self, count: int, draws: torch.Generator) -> Tensor:
        size = self.state.generator.noise_size
        return torch.randn(count, size, generator=draws, device=self.state.device, dtype=self.state.dtype)

    def _sampled(
        self, count: int, seed: int, temperature: float, batch_size: int
    ) -> list[tuple[Tensor, torch.Generator]]:
        if count < 0:
            raise ValueError(f"count must be >= 0, got {count}")
        at_least("temperature", temperature, 0)
        draws = torch.Generator(self.state.device).manual_seed(seed)
        self.state.modules.eval()
        with torch.no_grad():
            codes = self.state.sampler(self._noise(count, draws))
        return [(code, draws) for code in codes.split(batch_size)] if count else []

    @torch.no_grad()
    def _decode_ids(
        self, code: Tensor, temperature: float, draws: torch.Generator, labels: Tensor | None = None
    ) -> list[list[int]]:
        """Words for code[N, D], of the first N of labels."""
        shape, decoder = self.state.shape, self.state.decoder
        assert isinstance(shape, TextShape) and isinstance(decoder, TextDecoder | SeparateDecoders)
        decoder.eval()
        written: list[list[int]] = [[] for _ in range(len(code))]
        for part, rows, fed in decoder.by_class(code, None if labels is None else labels[: len(code)]):
            for i, row in zip(
                rows.tolist(),
                decode_text(part, fed, shape, self.settings.longest, temperature, draws),
                strict=True,
            ):
                written[i] = row
        return written

    @torch.no_grad()
    def _likeliest(self, store: TokenStore, batch_size: int) -> Tensor:
        """The class of each sentence, [N], under which it is most probable."""
        shape, decoder = self.state.shape, self.state.decoder
        assert isinstance(shape, TextShape) and isinstance(decoder, TextDecoder | SeparateDecoders)
        found = torch.zeros(len(store), dtype=torch.long)
        order = np.argsort(store.lengths, kind="stable")
        for part in np.array_split(order, max(1, -(-len(order) // batch_size))):
            if not len(part):
                continue
            batch, code = make_batch(store, part, shape, self.state.device), self._encoded(store, part)
            assert isinstance(batch, TextBatch)
            nats = [
                decoder.nll_each(replace(batch, labels=torch.full((len(part),), y)), code)
                for y in range(len(shape.classes))
            ]
            found[torch.from_numpy(part)] = torch.stack(nats).argmin(0).cpu()
        return found

    def _labels(self, attributes: Sequence[str]) -> Tensor:
        """Numbers of named classes. Raises ValueError for a name that the model does not know."""
        for name in set(attributes):
            if name not in self.classes:
                known = f"one of {', '.join(self.classes)}" if self.classes else "left out: this model has no attribute"
                raise ValueError(f"the attribute must be {known}, got {name!r}")
        return torch.tensor([self.classes.index(name) for name in attributes], dtype=torch.long)

    def _in_turn(self, count: int) -> Tensor | None:
        return torch.arange(max(count, 0)) % len(self.classes) if self.classes else None

    @torch.no_grad()
    def _decode_images(self, code: Tensor, temperature: float, draws: torch.Generator) -> Images:
        assert self.image_size is not None and isinstance(self.state.decoder, ImageDecoder)
        self.state.decoder.eval()
        logits = self.state.decoder(code)
        pixels = logits > 0
        if temperature > 0:
            chance = (logits / temperature).sigmoid()
            pixels = torch.rand(chance.shape, generator=draws, device=chance.device, dtype=chance.dtype) < chance
        images: Images = pixels.cpu().numpy().astype(np.uint8).reshape(-1, *self.image_size)
        return images

    def _decoded(self, code: Tensor, labels: Tensor | None = None) -> list[str] | Images:
        draws = torch.Generator(self.state.device).manual_seed(0)
        if self.vocabulary is None:
            return self._decode_images(code, 0.0, draws)
        return self.vocabulary.decode(self._decode_ids(code, 0.0, draws, labels))

    def _no_images(self) -> Images:
        assert self.image_size is not None
        return np.zeros((0, *self.image_size), np.uint8)


def _path(first: Tensor, second: Tensor, steps: int, on_sphere: bool) -> Tensor:
    """[steps, D] from first[D] to second[D]: on the great circle, the lengths changing evenly, or straight."""
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    share = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    straight = (1 - share) * first + share * second
    if not on_sphere:
        return straight
    length = (1 - share) * first.norm() + share * second.norm()
    angle = torch.arccos((first @ second / (first.norm() * second.norm()).clamp_min(1e-12)).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:  # the same direction, or opposite ones, which no one great circle joins
        return straight
    a, b = first / first.norm(), second / second.norm()
    arc: Tensor = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    points: Tensor = length * arc
    return points
