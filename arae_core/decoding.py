"""From codes to examples: words one after the other, pixels all at once.

Shapes: N codes, D numbers in a code, D' numbers of what a decoder is fed, P pixels, V entries of the vocabulary, K
classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.codecs.lstm import ROWS, SeparateDecoders, TextDecoder
from arae_core.codecs.mlp import ImageDecoder
from arae_core.data.batches import TextBatch
from arae_core.data.data_spec import TextSpec

LOOK_ON_GPU = 4
"""Words after which a GPU is asked which sentences have ended."""

Voice = tuple[TextDecoder, Tensor, float]
"""A decoder, what it is fed, [N, D'], and the weight of what it says in the choice of a word."""


@torch.no_grad()
def decode_sentences(
    decoder: TextDecoder | SeparateDecoders,
    code: Tensor,
    labels: Tensor | None,
    spec: TextSpec,
    longest: int,
    temperature: float,
    draws: torch.Generator,
    contrast: float = 0.0,
) -> list[list[int]]:
    """Words for code[N, D], each as of its class in labels[N], where there are classes; see `decode_text`.

    contrast: gamma >= 0; words are chosen by (1 + gamma) log p(w | c, y) - gamma mean_y' log p(w | c, y'), y' the other
    classes: what any class would say of the code counts less, what tells y apart more.
    """
    written: list[list[int]] = [[] for _ in range(len(code))]
    for part, rows, fed in decoder.by_class(code, labels):
        voices: list[Voice] = [(part, fed, 1.0 + contrast)]
        if contrast:
            assert labels is not None
            classes = len(spec.classes)
            for other in range(1, classes):
                own = (labels[rows] + other) % classes
                voices += [(d, f, -contrast / (classes - 1)) for d, _, f in decoder.by_class(code[rows], own)]
        words = decode_text(voices, spec, longest, temperature, draws)
        for i, row in zip(rows.tolist(), words, strict=True):
            written[i] = row
    return written


@torch.no_grad()
def decode_text(
    voices: Sequence[Voice], spec: TextSpec, longest: int, temperature: float, draws: torch.Generator
) -> list[list[int]]:
    """Words by the weighted sum of what the voices say, greedy at temperature 0, else drawn; without marks, at most
    `longest` words.

    Rows that have ended leave the batch, ROWS at a time, and on a GPU only every few words, for to look costs more
    there than to go on.
    The pad and start marks are never chosen.
    """
    fed = [code for _, code, _ in voices]
    rows = torch.arange(len(fed[0]), device=fed[0].device)
    words = torch.full((len(rows), longest), spec.end, device=rows.device)
    word = torch.full((len(rows), 1), spec.start, device=rows.device)
    ended = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    look = LOOK_ON_GPU if rows.is_cuda else 1
    states: list[tuple[Tensor, Tensor] | None] = [None] * len(voices)
    for position in range(longest):
        said = []
        for i, (decoder, _, weight) in enumerate(voices):
            hidden, states[i] = decoder(word, fed[i], states[i])
            logits = decoder.output(hidden[:, 0]).float()
            said.append(logits if len(voices) == 1 else weight * logits.log_softmax(1))
        logits = said[0] if len(voices) == 1 else torch.stack(said).sum(0)
        logits[:, spec.pad] = logits[:, spec.start] = -torch.inf
        word = logits.argmax(1, keepdim=True) if temperature == 0 else _drawn(logits, temperature, draws)
        words[rows, position] = word[:, 0]
        ended = ended | (word[:, 0] == spec.end)
        if (position + 1) % look:
            continue
        left = len(rows) - int(ended.sum())
        if left == 0:
            break
        if (kept := -(-left // ROWS) * ROWS) < len(rows):
            going = ended.int().argsort(stable=True)[:kept]
            rows, word, ended, fed = rows[going], word[going], ended[going], [code[going] for code in fed]
            states = [s and (s[0][:, going].contiguous(), s[1][:, going].contiguous()) for s in states]
    written = words.cpu().numpy()  # the only wait for a GPU but for the looks
    lengths = np.where((written == spec.end).any(1), (written == spec.end).argmax(1), longest)
    return [row[:length].tolist() for row, length in zip(written, lengths, strict=True)]


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
