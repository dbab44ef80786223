"""From codes to examples: words one after the other, pixels all at once.

Shapes: N codes, D numbers in a code, D' numbers of what a decoder is fed, P pixels, V entries of the vocabulary, K
classes.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.batches import TextBatch
from arae_core.image import ImageDecoder
from arae_core.shapes import TextShape
from arae_core.text import SeparateDecoders, TextDecoder


@torch.no_grad()
def decode_sentences(
    decoder: TextDecoder | SeparateDecoders,
    code: Tensor,
    labels: Tensor | None,
    shape: TextShape,
    longest: int,
    temperature: float,
    draws: torch.Generator,
) -> list[list[int]]:
    """Words for code[N, D], each as of its class in labels[N], where there are classes; see `decode_text`."""
    written: list[list[int]] = [[] for _ in range(len(code))]
    for part, rows, fed in decoder.by_class(code, labels):
        words = decode_text(part, fed, shape, longest, temperature, draws)
        for i, row in zip(rows.tolist(), words, strict=True):
            written[i] = row
    return written


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


@torch.no_grad()
def decode_images(decoder: ImageDecoder, code: Tensor, temperature: float, draws: torch.Generator) -> NDArray[np.uint8]:
    """Pixels uint8[N, P], 0 or 1, for code[N, D]: the more probable value at temperature 0, else drawn."""
    logits = decoder(code)
    pixels = logits > 0
    if temperature > 0:
        chance = (logits / temperature).sigmoid()
        pixels = torch.rand(chance.shape, generator=draws, device=chance.device, dtype=chance.dtype) < chance
    images: NDArray[np.uint8] = pixels.cpu().numpy().astype(np.uint8)
    return images


@torch.no_grad()
def likeliest_classes(decoder: TextDecoder | SeparateDecoders, batch: TextBatch, code: Tensor, classes: int) -> Tensor:
    """argmax_y p(x | c, y) of each of the N sentences of the batch, among K = `classes`."""
    every = (replace(batch, labels=torch.full((len(batch),), y)) for y in range(classes))
    return torch.stack([decoder.nll_each(one, code) for one in every]).argmin(0).cpu()
