"""Base classes of encoders and decoders of sentences, with the output layer and the cross-entropy.

Shapes: B sentences, T tokens with the start or the end token, D numbers in a code, D' numbers fed to a decoder (the
code, and the vector of the class), H units, V entries of the vocabulary, M tokens that count.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.data.batches import PaddedBatch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.settings import Settings

IGNORED = -100
"""Target of a token that does not count."""
ROUND = 64
"""Logits are computed for a multiple of this many tokens. In bfloat16 on a CPU, torch compiles and keeps a program of a
megabyte for every number of tokens that it meets: half an hour of training grew to 8 GB."""
ROWS = 8
"""The same for the number of sentences, where it varies."""


class Projection(nn.Module):
    """Hidden states [M, H] -> logits [M, V]. The weight is [H, V], which makes the product of its gradient fast."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return hidden @ weight + bias."""
        return torch.addmm(self.bias, hidden, self.weight)


def embedding(entries: int, width: int) -> nn.Embedding:
    """Word vectors with a small initial scale, which suits LSTMs."""
    table = nn.Embedding(entries, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def counted_states(batch: TextBatch, states: Tensor) -> tuple[Tensor, Tensor]:
    """The states [M, H], of states[B, T, H], whose tokens count, and the targets [M].

    M is rounded up to a multiple of ROUND; a padded batch keeps all its tokens. Targets that do not count are IGNORED.
    """
    if isinstance(batch, PaddedBatch):
        return states.flatten(0, 1), counted_targets(batch)
    # Which tokens are valid is computed in main memory: asking the device would make the host wait.
    valid = torch.arange(batch.source.shape[1]) < batch.lengths[:, None]
    if bool(valid.all()):
        return states.flatten(0, 1), batch.target.flatten()
    where = to_device(valid.flatten().nonzero().squeeze(1), states.device)
    more = (0, -len(where) % ROUND)
    return states.flatten(0, 1)[F.pad(where, more)], F.pad(batch.target.flatten()[where], more, value=IGNORED)


def counted_targets(batch: PaddedBatch) -> Tensor:
    """target[B * T] of a padded batch, IGNORED behind the end of each sentence."""
    column = torch.arange(batch.target.shape[1], device=batch.target.device)
    return batch.target.masked_fill(column >= batch.lengths[:, None], IGNORED).flatten()


def summed_nats(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits[M, V] and target[M], summed over the targets that count, in float32 or float64."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)


def nats_of_sentences(logits: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Cross-entropy of each sentence, [B], for logits[M, V] and target[M] of sentences of lengths[B]."""
    nats = F.cross_entropy(logits.float(), target, reduction="none")[: int(lengths.sum())]
    sentence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return torch.zeros(len(lengths), device=nats.device).index_add_(0, to_device(sentence, nats.device), nats)


class SentenceEncoder(nn.Module):
    """Base of encoders of sentences. Subclasses define `forward(batch)`, see `codecs.Encoder.__call__`."""

    @torch.no_grad()
    def encode_mixed(self, batch: TextBatch, parts: int) -> Tensor:
        """Return [B, D] for sentences of any lengths, in `parts` runs over sentences of like length.

        A padded batch takes one run, which costs a GPU less than asking it for the order.
        """
        if isinstance(batch, PaddedBatch):
            output: Tensor = self(batch)
            return output
        order = batch.lengths.argsort(stable=True)
        output = torch.cat([self(batch.rows(rows)) for rows in order.chunk(parts)])
        return torch.empty_like(output).index_copy_(0, to_device(order, output.device), output)

    def initialize_as_released(self) -> None:
        """U(-0.1, 0.1)."""
        initialize_as_released(self)


class SentenceDecoder(nn.Module, ABC):
    """Base of decoders that are fed the code, and for labelled data a vector of the class.

    Subclasses set `output` and define `states`, and `start`, `step` and `select` of `codecs.TextDecoder`.

    Attributes:
        fed_size: D'.
    """

    output: Projection

    def __init__(self, settings: Settings, spec: TextSpec) -> None:
        super().__init__()
        width = settings.decoder.attribute_embedding
        self.attribute = nn.Embedding(len(spec.classes), width) if spec.classes else None
        self.fed_size = settings.code.size + (width if spec.classes else 0)

    def conditioned(self, code: Tensor, labels: Tensor | None) -> Tensor:
        """The vectors [B, D'] that the decoder is fed, for code[B, D] and labels[B] (in main memory)."""
        if self.attribute is None:
            return code
        assert labels is not None
        return torch.cat([code, self.attribute(to_device(labels, code.device)).to(code.dtype)], 1)

    @abstractmethod
    def states(self, batch: TextBatch, fed: Tensor) -> Tensor:
        """The hidden states [B, T, H] from which the tokens are predicted, given the right ones before."""

    def logits(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, V] of the tokens that count, and their targets [M]; see `counted_states`."""
        counted, target = counted_states(batch, self.states(batch, self.conditioned(code, batch.labels)))
        return self.output(counted), target

    def nll(self, batch: TextBatch, code: Tensor) -> Tensor:
        """-log p(x | c) in nats, summed over the tokens that count; the end token does."""
        return summed_nats(*self.logits(batch, code))

    def nll_each(self, batch: TextBatch, code: Tensor) -> Tensor:
        """Like `nll`, for each sentence: [B]."""
        return nats_of_sentences(*self.logits(batch, code), batch.lengths)

    def score(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Summed nats, tokens predicted right, and tokens, each given the right words before it."""
        logits, target = self.logits(batch, code)
        nll = F.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)
        return nll, (logits.argmax(1) == target).sum(), int(batch.lengths.sum())

    def initialize_as_released(self) -> None:
        """U(-0.1, 0.1), the output's bias 0."""
        initialize_as_released(self)


@torch.no_grad()
def initialize_as_released(module: nn.Module) -> None:
    """Draw every parameter from U(-0.1, 0.1); the output's bias is 0."""
    for path, parameter in module.named_parameters():
        parameter.zero_() if path.endswith("output.bias") else parameter.uniform_(-0.1, 0.1)
