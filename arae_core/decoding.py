"""From codes to examples: words one after the other, pixels all at once, for any codec.

Shapes: N codes, D numbers in a code, P pixels, V entries of the vocabulary, K classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arae_core.codecs import ImageDecoder, TextDecoder
from arae_core.codecs.text import ROWS
from arae_core.data.batches import TextBatch
from arae_core.data.data_spec import TextSpec

GPU_CHECK_INTERVAL = 4
"""Words after which a GPU is asked which sentences have ended. Asking costs more there than writing on."""


@torch.no_grad()
def decode_sentences(
    decoder: TextDecoder,
    code: Tensor,
    labels: Tensor | None,
    spec: TextSpec,
    longest: int,
    temperature: float,
    draws: torch.Generator,
    contrast: float = 0.0,
) -> list[list[int]]:
    """Write a sentence for each row of code[N, D], with classes labels[N] if the model has any: ids without marks.

    temperature: 0 is greedy. contrast: gamma >= 0; words are chosen by (1 + gamma) log p(w | c, y) - gamma mean over
    y' != y of log p(w | c, y'), a penalty on words that the other classes also predict.

    Sentences that have ended leave the batch, ROWS at a time. The padding and start tokens are never chosen.
    """
    weights = [1.0]
    voices: list[Tensor | None] = [labels]
    if contrast:
        assert labels is not None
        classes = len(spec.classes)
        weights = [1.0 + contrast] + [-contrast / (classes - 1)] * (classes - 1)
        voices += [(labels + other) % classes for other in range(1, classes)]
    states = [decoder.start(code, voice) for voice in voices]
    rows = torch.arange(len(code), device=code.device)
    words = torch.full((len(rows), longest), spec.end, device=rows.device)
    word = torch.full((len(rows),), spec.start, device=rows.device)
    ended = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    interval = GPU_CHECK_INTERVAL if rows.is_cuda else 1
    for position in range(longest):
        steps = [decoder.step(state, word) for state in states]
        states = [state for _, state in steps]
        logits = _combined([each for each, _ in steps], weights)
        logits[:, spec.pad] = logits[:, spec.start] = -torch.inf
        word = logits.argmax(1) if temperature == 0 else _drawn(logits, temperature, draws)
        words[rows, position] = word
        ended = ended | (word == spec.end)
        if (position + 1) % interval:
            continue
        left = len(rows) - int(ended.sum())
        if left == 0:
            break
        if (kept := -(-left // ROWS) * ROWS) < len(rows):
            unfinished = ended.int().argsort(stable=True)[:kept]
            rows, word, ended = rows[unfinished], word[unfinished], ended[unfinished]
            states = [decoder.select(state, unfinished) for state in states]
    written = words.cpu().numpy()  # the only other wait for a GPU
    lengths = np.where((written == spec.end).any(1), (written == spec.end).argmax(1), longest)
    return [row[:length].tolist() for row, length in zip(written, lengths, strict=True)]


def _combined(logits: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of log-probabilities, [N, V]; logits[N, V] themselves where there is but one term."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([weight * each.log_softmax(1) for each, weight in zip(logits, weights, strict=True)]).sum(0)


def _drawn(logits: Tensor, temperature: float, draws: torch.Generator) -> Tensor:
    """Draw one column [N] for each row of logits[N, V], by inversion of the cumulative distribution.

    `torch.multinomial` draws from the same distribution, 20 times slower on a CPU with 11,000 words.
    """
    temperature = max(temperature, 1e-6)  # lower ones are greedy, too, and overflow float32
    below = ((logits - logits.amax(1, keepdim=True)) / temperature).exp().cumsum(1)
    point = torch.rand(len(logits), 1, generator=draws, device=logits.device) * below[:, -1:]
    return torch.searchsorted(below, point, right=True).clamp_max(logits.shape[1] - 1)[:, 0]


@torch.no_grad()
def decode_images(decoder: ImageDecoder, code: Tensor, temperature: float, draws: torch.Generator) -> NDArray[np.uint8]:
    """Pixels uint8[N, P], 0 or 1, for code[N, D]: the more probable value at temperature 0, else a draw."""
    logits = decoder(code)
    pixels = logits > 0
    if temperature > 0:
        chance = (logits / temperature).sigmoid()
        pixels = torch.rand(chance.shape, generator=draws, device=chance.device, dtype=chance.dtype) < chance
    images: NDArray[np.uint8] = pixels.cpu().numpy().astype(np.uint8)
    return images


@torch.no_grad()
def most_probable_classes(decoder: TextDecoder, batch: TextBatch, code: Tensor, classes: int) -> Tensor:
    """argmax over y of p(x | c, y) for each of the N sentences of a batch, among K = `classes`."""
    every = (replace(batch, labels=torch.full((len(batch),), y)) for y in range(classes))
    return torch.stack([decoder.nll_each(one, code) for one in every]).argmin(0).cpu()
