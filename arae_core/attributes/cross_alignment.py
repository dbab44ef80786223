"""The Cross-Aligned autoencoder (Shen et al. 2017), a baseline of attribute transfer without a critic of the code.

Discriminators compare the decoder's states. Free-running states of transferred sentences should match teacher-forced
states of real sentences of the target class. In free-running mode the decoder reads its own soft words, the mean of the
word vectors under a sharpened distribution with Gumbel noise, so that gradients pass through them. The discriminators
are trained with the optimizer of `classifier`. As in the authors' code, half of a discriminator's features are dropped,
and the autoencoder ignores discriminators that have not learned anything yet. Unlike theirs, the gradient through each
soft word is bounded: over ten words it occasionally grows a thousandfold.

Symbols as in `algorithm`. Shapes: B sentences, T tokens with one mark, H units of the decoder, D numbers in a code, K
classes, V entries of the vocabulary, F features of a discriminator.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.codecs.lstm import LSTMDecoder, run_lstm
from arae_core.data.batches import Batch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.runtime.parallel import Parallel

if TYPE_CHECKING:
    from arae_core.training.state import TrainingState

SOFT_WORD_TEMPERATURE = 0.1
"""Temperature of the decoder's soft words."""
WIDTHS, CHANNELS = (1, 2, 3, 4, 5), 64
"""Tokens that the discriminators' filters span, and filters of each width."""
KEPT = 0.5
"""Share of a discriminator's features that dropout keeps."""
UNINFORMATIVE = 1.2
"""Discriminator loss, in nats, from which on the autoencoder ignores it; guessing has 1.39. (With `encoder.updates`
each, Adam's moments of earlier steps still move the autoencoder.)"""
SHIFT = 1009
"""Gumbel noise is drawn once a sentence and shifted by this many entries of the vocabulary for each further word."""
MAX_GRADIENT_NORM = 1.0
"""Bound on the norm of a sentence's gradient through one soft word, in units of the sentence's weight in the loss."""


class SequenceDiscriminators(nn.Module):
    """A convolutional network for each class (Kim 2014): are these the decoder's states on real sentences of the
    class?"""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        # With this padding every filter sees zeros alone somewhere, so that more padding changes nothing.
        self.filters = nn.ModuleList(
            nn.ModuleList(nn.Conv1d(hidden, CHANNELS, width, padding=width) for width in WIDTHS) for _ in range(classes)
        )
        self.outputs = nn.ModuleList(nn.Linear(CHANNELS * len(WIDTHS), 1) for _ in range(classes))

    def forward(self, states: Tensor, classes: Tensor, kept: Tensor | float = 1.0) -> Tensor:
        """Scores [B] of states[B, T, H], each by the network of its class, classes[B]. kept[B, F]: dropout factors."""
        across, scores = states.transpose(1, 2), []
        for filters, output in zip(self.filters, self.outputs, strict=True):
            assert isinstance(filters, nn.ModuleList)
            features = [F.leaky_relu(each(across)).amax(2) for each in filters]
            scores.append(output(torch.cat(features, 1) * kept).squeeze(1))
        return torch.stack(scores, 1).gather(1, classes[:, None]).squeeze(1)


def free_running_states(
    decoder: LSTMDecoder, code: Tensor, labels: Tensor, start: int, noise: Iterable[Tensor], max_norm: float
) -> Tensor:
    """States [B, T, H] of the decoder on its own soft words, for code[B, D] and labels[B] (in main memory).

    noise: T tensors [B, V], added to the logits. max_norm: bound on the norm of gradients through a soft word.
    """
    fed = decoder.conditioned(code, labels)
    word = decoder.embedding(torch.full((len(code),), start, device=code.device))
    state: tuple[Tensor, Tensor] | None = None
    states = []
    for gumbel in noise:
        hidden, state = run_lstm(decoder.lstm, torch.cat([word, fed.to(word.dtype)], 1)[:, None], state)
        states.append(hidden)
        probabilities = ((decoder.output(hidden[:, 0]) + gumbel) / SOFT_WORD_TEMPERATURE).softmax(1)
        word = probabilities.to(word.dtype) @ decoder.embedding.weight
        word.register_hook(lambda gradient: clip_rows(gradient, max_norm))
    return torch.cat(states, 1)


def clip_rows(gradient: Tensor, max_norm: float) -> Tensor:
    """Clip the norm of each row of gradient[B, .]."""
    clipped: Tensor = gradient * (max_norm / gradient.norm(dim=1, keepdim=True)).clamp(max=1)
    return clipped


def gumbel_noise(uniform: Tensor) -> Tensor:
    """Gumbel noise from U(0, 1): the arg-max of logits plus this noise is a draw from their distribution."""
    return -(-uniform.log()).log()


def shifted(drawn: Tensor, words: int) -> Iterator[Tensor]:
    """drawn[B, V] for each of `words` words, each time shifted further along the vocabulary."""
    shift = SHIFT if drawn.shape[1] % SHIFT else SHIFT + 1  # a multiple would soon return to the start
    return (drawn.roll(word * shift, 1) for word in range(words))


def cross_alignment_step(state: "TrainingState", parallel: Parallel, batch: Batch) -> dict[str, Tensor]:
    """Train the discriminators to tell the two kinds of states apart, then encoder and decoder to align them:

    xi <- grad of -mean log D_y(h) - mean log(1 - D_y'(h~)); phi, psi <- grad of -weight mean log D_y'(h~)

    h: teacher-forced states on the sentences, of class y. h~: free-running states of their transfer to the next class
    y'.
    """
    assert isinstance(batch, TextBatch) and batch.labels is not None
    decoder, discriminators = state.modules["decoder"], state.modules["aligner"]
    assert isinstance(decoder, LSTMDecoder) and isinstance(discriminators, SequenceDiscriminators)
    assert isinstance(state.spec, TextSpec)
    m, weight = state.settings.batch_size, state.settings.decoder.alignment_weight
    other = (batch.labels + 1) % len(discriminators.outputs)
    noise = shifted(gumbel_noise(state.uniform(m, state.spec.vocabulary, parallel)), batch.source.shape[1])
    with state.autocast():
        code = state.encode(batch)
        real, _ = decoder(batch.source, decoder.conditioned(code, batch.labels))
        own = free_running_states(decoder, code, other, state.spec.start, noise, MAX_GRADIENT_NORM * weight / m)
    valid = torch.arange(real.shape[1], device=real.device) < to_device(batch.lengths, real.device)[:, None]
    real, own = (states.to(state.dtype) * valid[:, :, None] for states in (real, own))
    own_class, other_class = to_device(batch.labels, real.device), to_device(other, real.device)
    kept = [(state.uniform(m, len(WIDTHS) * CHANNELS, parallel) < KEPT) / KEPT for _ in range(3)]
    told_apart = F.softplus(-discriminators(real.detach(), own_class, kept[0])).mean()
    told_apart = told_apart + F.softplus(discriminators(own.detach(), other_class, kept[1])).mean()
    state.update(("aligner",), told_apart, parallel)
    aligned = F.softplus(-discriminators(own, other_class, kept[2])).mean()
    informative = parallel.mean(told_apart.detach(), parallel.share(m)) < UNINFORMATIVE
    state.update_or_accumulate(("encoder", "code", "decoder"), weight * informative * aligned, parallel)
    return {"discriminator_loss": told_apart.detach(), "alignment_loss": aligned.detach()}
