"""A trained ARAE to use: generate, reconstruct, interpolate, encode.

Shapes: N examples, D numbers in a code, H x W pixels, V entries of the vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.batches import ImageStore, Store, TokenStore, make_batch
from arae_core.checkpoint import load_checkpoint
from arae_core.config import ImageShape, Settings, TextShape, at_least
from arae_core.image import ImageDecoder
from arae_core.state import TrainingState
from arae_core.text import TextDecoder
from arae_core.vocabulary import Vocabulary

Images = NDArray[np.uint8]
Examples = Sequence[str] | Images


@torch.no_grad()
def decode_text(
    decoder: TextDecoder, code: Tensor, shape: TextShape, longest: int, temperature: float, draws: torch.Generator
) -> list[list[int]]:
    """Words for code[N, D], greedy at temperature 0, else drawn; without marks, at most `longest` words.

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
    def image_size(self) -> tuple[int, int] | None:
        """(height, width), or None for sentences."""
        shape = self.state.shape
        return (shape.height, shape.width) if isinstance(shape, ImageShape) else None

    def generate(
        self, count: int, *, seed: int = 0, temperature: float | None = None, batch_size: int = 512
    ) -> list[str] | Images:
        """`count` new examples from noise. temperature 0: the most probable word or pixel; > 0: drawn; None: as the
        model's settings say.

        Raises ValueError for count < 0 or temperature < 0.
        """
        temperature = self.settings.temperature if temperature is None else temperature
        if self.vocabulary is not None:
            return self.vocabulary.decode(
                self.generate_ids(count, seed=seed, temperature=temperature, batch_size=batch_size)
            )
        parts = [
            self._decode_images(code, temperature, draws)
            for code, draws in self._sampled(count, seed, temperature, batch_size)
        ]
        return np.concatenate(parts) if parts else self._no_images()

    def generate_ids(
        self, count: int, *, seed: int = 0, temperature: float | None = None, batch_size: int = 512
    ) -> list[list[int]]:
        """As `generate`, as ids without marks."""
        temperature = self.settings.temperature if temperature is None else temperature
        rows: list[list[int]] = []
        for code, draws in self._sampled(count, seed, temperature, batch_size):
            rows += self._decode_ids(code, temperature, draws)
        return rows

    def reconstruct(
        self, examples: Examples, *, temperature: float = 0.0, seed: int = 0, batch_size: int = 512
    ) -> list[str] | Images:
        """Each example through its code and back. Sentences longer than `longest` are read whole, written cut."""
        at_least("temperature", temperature, 0)
        store, order = self._store(examples), np.arange(len(examples))
        if isinstance(store, TokenStore):
            order = np.argsort(store.lengths, kind="stable")
        draws = torch.Generator(self.state.device).manual_seed(seed)
        texts: list[list[int]] = [[] for _ in order]
        images = [self._no_images()] if self.vocabulary is None else []
        for part in np.array_split(order, max(1, -(-len(order) // batch_size))) if len(order) else []:
            code = self._encoded(store, part)
            if self.vocabulary is None:
                images.append(self._decode_images(code, temperature, draws))
            else:
                for i, row in zip(part, self._decode_ids(code, temperature, draws), strict=True):
                    texts[i] = row
        return np.concatenate(images) if self.vocabulary is None else self.vocabulary.decode(texts)

    def interpolate(self, first: str | Images, second: str | Images, steps: int) -> list[str] | Images:
        """`steps` examples on the great circle between two examples' codes, both ends included.

        Images are uint8[H, W]. On an unbounded code space (code.unit_sphere false) the line is straight.
        Raises ValueError for steps < 2.
        """
        if isinstance(first, str) and isinstance(second, str):
            pair: Examples = [first, second]
        elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            pair = np.stack([first, second])
        else:
            raise ValueError("both ends of an interpolation must be sentences, or both images")
        codes = self._encoded(self._store(pair), np.arange(2))
        return self._decoded(_path(codes[0], codes[1], steps, self.settings.code.unit_sphere))

    def interpolate_noise(self, steps: int, *, seed: int = 0) -> list[str] | Images:
        """`steps` examples between two draws of noise, on the great circle through both. ValueError for steps < 2."""
        noise = self._noise(2, torch.Generator(self.state.device).manual_seed(seed))
        path = _path(noise[0], noise[1], steps, True)
        self.state.modules.eval()
        with torch.no_grad():
            return self._decoded(self.state.sampler(path))

    def encode(self, examples: Examples, batch_size: int = 512) -> NDArray[np.float32]:
        """The codes, float32[N, D]."""
        store = self._store(examples)
        parts = np.array_split(np.arange(len(examples)), max(1, -(-len(examples) // batch_size)))
        codes = [self._encoded(store, part) for part in parts if len(part)]
        result = torch.cat(codes) if codes else torch.zeros(0, self.settings.code.size)
        return result.float().cpu().numpy()

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

    def _decode_ids(self, code: Tensor, temperature: float, draws: torch.Generator) -> list[list[int]]:
        shape, decoder = self.state.shape, self.state.decoder
        assert isinstance(shape, TextShape) and isinstance(decoder, TextDecoder)
        decoder.eval()
        return decode_text(decoder, code, shape, self.settings.longest, temperature, draws)

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

    def _decoded(self, code: Tensor) -> list[str] | Images:
        draws = torch.Generator(self.state.device).manual_seed(0)
        if self.vocabulary is None:
            return self._decode_images(code, 0.0, draws)
        return self.vocabulary.decode(self._decode_ids(code, 0.0, draws))

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
