"""The Cross-Aligned autoencoder (Shen et al. 2017), with which the paper compares transfer: no critic of the code, but
discriminators of what the decoder does.

The decoder's states while it reads real sentences of a class, and while it reads its own words as it says sentences of
another class again as of that one, are to look alike. Its own words are drawn, and soft, so that gradients pass through
them: the mean of the word vectors under a sharpened distribution, with Gumbel noise. Symbols as in `algorithm`; the
discriminators are trained with the optimizer of `classifier`. As in their code, half of what a discriminator has found
is dropped, and nothing follows one that can tell nothing yet. Beyond it, the gradient through each soft word is
bounded: through ten of them it grows a thousandfold now and then.

Shapes: B sentences, T tokens with one mark, H units of the decoder, D numbers in a code, K classes, V entries of the
vocabulary, F numbers that a discriminator finds in a sentence.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.codecs.lstm import TextDecoder, run_lstm
from arae_core.data.batches import Batch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.runtime.parallel import Parallel

if TYPE_CHECKING:
    from arae_core.training.state import TrainingState

SHARPNESS = 0.1
"""Temperature of the decoder's own, soft words."""
WIDTHS, CHANNELS = (1, 2, 3, 4, 5), 64
"""Tokens that the discriminators' filters span, and filters of each width."""
KEPT = 0.5
"""Share of what a discriminator has found that it may use."""
TOO_POOR = 1.2
"""A discriminators' loss (nats; that of chance is 1.39) from which on autoencoders do not follow them. (Where
`encoder.updates` is each, what Adam remembers of steps before still moves them.)"""
SHIFT = 1009
"""Noise is drawn once a sentence, and for each further word lies so many entries of the vocabulary further on."""
STEEPEST = 1.0
"""Norm that a sentence's gradient through one of its soft words may have, in units of its weight in the loss."""


class SequenceDiscriminators(nn.Module):
    """A convolutional network a class (Kim 2014): are these the decoder's states on real sentences of that class?"""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        # so much padding that every filter sees nothing but zeros somewhere: then more of them change nothing
        self.filters = nn.ModuleList(
            nn.ModuleList(nn.Conv1d(hidden, CHANNELS, width, padding=width) for width in WIDTHS) for _ in range(classes)
        )
        self.outputs = nn.ModuleList(nn.Linear(CHANNELS * len(WIDTHS), 1) for _ in range(classes))

    def forward(self, states: Tensor, classes: Tensor, kept: Tensor | float = 1.0) -> Tensor:
        """Scores [B] of states[B, T, H], each by the network of its class, classes[B]. kept[B, F]: factors of what the
        filters have found."""
        across, scores = states.transpose(1, 2), []
        for filters, output in zip(self.filters, self.outputs, strict=True):
            assert isinstance(filters, nn.ModuleList)
            found = [F.leaky_relu(each(across)).amax(2) for each in filters]
            scores.append(output(torch.cat(found, 1) * kept).squeeze(1))
        return torch.stack(scores, 1).gather(1, classes[:, None]).squeeze(1)


def self_fed(
    decoder: TextDecoder, code: Tensor, labels: Tensor, start: int, noise: Iterable[Tensor], steepest: float
) -> Tensor:
    """States [B, T, H] of the decoder on its own soft words, for code[B, D] and labels[B] (in main memory).

    noise: T times [B, V], added to the words' logits. steepest: norm that gradients through a word are cut to.
    """
    fed = decoder.conditioned(code, labels)
    word = decoder.embedding(torch.full((len(code),), start, device=code.device))
    state: tuple[Tensor, Tensor] | None = None
    states = []
    for each in noise:
        hidden, state = run_lstm(decoder.lstm, torch.cat([word, fed.to(word.dtype)], 1)[:, None], state)
        states.append(hidden)
        chances = ((decoder.output(hidden[:, 0]) + each) / SHARPNESS).softmax(1)
        word = chances.to(word.dtype) @ decoder.embedding.weight
        word.register_hook(lambda gradient: cut(gradient, steepest))
    return torch.cat(states, 1)


def cut(gradient: Tensor, most: float) -> Tensor:
    """gradient[B, .], each row's norm at most that."""
    shorter: Tensor = gradient * (most / gradient.norm(dim=1, keepdim=True)).clamp(max=1)
    return shorter


def gumbel(uniform: Tensor) -> Tensor:
    """What, added to logits, makes the greatest of them a word drawn from their distribution, of U(0, 1)."""
    return -(-uniform.log()).log()


def moved_on(drawn: Tensor, words: int) -> Iterator[Tensor]:
    """drawn[B, V] for each of so many words, every time so many entries further on."""
    shift = SHIFT if drawn.shape[1] % SHIFT else SHIFT + 1  # else it would soon be where it was
    return (drawn.roll(word * shift, 1) for word in range(words))


def align(state: "TrainingState", parallel: Parallel, batch: Batch) -> dict[str, Tensor]:
    """The discriminators learn to tell the two kinds of states apart, then encoder and decoder to make them alike:

    xi <- grad of -mean log D_y(h) - mean log(1 - D_y'(h~)); phi, psi <- grad of -weight mean log D_y'(h~)

    h: states on the sentences themselves, of class y. h~: states as they are said again as of the next class, y'.
    """
    assert isinstance(batch, TextBatch) and batch.labels is not None
    decoder, discriminators = state.decoder, state.modules["aligner"]
    assert isinstance(decoder, TextDecoder) and isinstance(discriminators, SequenceDiscriminators)
    assert isinstance(state.spec, TextSpec)
    m, weight = state.settings.batch_size, state.settings.decoder.alignment_weight
    other = (batch.labels + 1) % len(discriminators.outputs)
    noise = moved_on(gumbel(state.uniform(m, state.spec.vocabulary, parallel)), batch.source.shape[1])
    with state.autocast():
        code = state.encoder(batch)
        real, _ = decoder(batch.source, decoder.conditioned(code, batch.labels))
        own = self_fed(decoder, code, other, state.spec.start, noise, STEEPEST * weight / m)
    there = torch.arange(real.shape[1], device=real.device) < to_device(batch.lengths, real.device)[:, None]
    real, own = (states.to(state.dtype) * there[:, :, None] for states in (real, own))
    own_class, other_class = to_device(batch.labels, real.device), to_device(other, real.device)
    kept = [(state.uniform(m, len(WIDTHS) * CHANNELS, parallel) < KEPT) / KEPT for _ in range(3)]
    told_apart = F.softplus(-discriminators(real.detach(), own_class, kept[0])).mean()
    told_apart = told_apart + F.softplus(discriminators(own.detach(), other_class, kept[1])).mean()
    state.update(("aligner",), told_apart, parallel)
    alike = F.softplus(-discriminators(own, other_class, kept[2])).mean()
    good = parallel.mean(told_apart.detach(), parallel.share(m)) < TOO_POOR
    state.add(("encoder", "decoder"), weight * good * alike, parallel)
    return {"discriminator_loss": told_apart.detach(), "alignment_loss": alike.detach()}
