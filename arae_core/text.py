"""Encoder and decoder of sentences: LSTMs on padded, length-grouped batches.

Shapes: B sentences, T tokens with one mark, D numbers in a code, H units, V entries of the vocabulary, M valid tokens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.batches import TextBatch, moved
from arae_core.code_space import to_sphere
from arae_core.config import Settings, TextShape

State = tuple[Tensor, Tensor]


def embedding(entries: int, width: int) -> nn.Embedding:
    """Word vectors that start small, as an LSTM wants them."""
    table = nn.Embedding(entries, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


class Projection(nn.Module):
    """Hidden states [M, H] -> logits [M, V]. Its weight is [H, V], which makes the gradient's product a fast one."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.addmm(self.bias, hidden, self.weight)


class TextEncoder(nn.Module):
    """enc_phi: the last state of an LSTM over the sentence, on the unit sphere (paper, section 5)."""

    def __init__(self, settings: Settings, shape: TextShape):
        super().__init__()
        e = settings.encoder
        self.unit_sphere = settings.code.unit_sphere
        self.embedding = embedding(shape.vocabulary, e.embedding)
        self.lstm = nn.LSTM(e.embedding, e.hidden[0], len(e.hidden), batch_first=True)
        same = e.hidden[-1] == settings.code.size
        self.to_code = nn.Identity() if same else nn.Linear(e.hidden[-1], settings.code.size)

    def forward(self, batch: TextBatch) -> Tensor:
        """code[B, D]. The state is read at each sentence's own length, so padding changes nothing."""
        states, _ = self.lstm(self.embedding(batch.source))
        last = moved(batch.lengths - 1, states.device)
        code: Tensor = self.to_code(states[torch.arange(len(batch), device=states.device), last])
        return to_sphere(code) if self.unit_sphere else code

    @torch.no_grad()
    def encode_mixed(self, batch: TextBatch, parts: int) -> Tensor:
        """code[B, D] of sentences of any lengths, without gradient: `parts` runs over sentences of like length each."""
        order = batch.lengths.argsort(stable=True)
        codes = []
        for rows in order.chunk(parts):
            lengths = batch.lengths[rows]
            longest, there = int(lengths.max()), moved(rows, batch.source.device)
            codes.append(self(TextBatch(batch.source[there, :longest], batch.target[there, :longest], lengths)))
        code = torch.cat(codes)
        return torch.empty_like(code).index_copy_(0, moved(order, code.device), code)


class TextDecoder(nn.Module):
    """p_psi(x | c): an LSTM that is fed the code at every step; its first state is zero."""

    def __init__(self, settings: Settings, shape: TextShape):
        super().__init__()
        d = settings.decoder
        self.embedding = embedding(shape.vocabulary, d.embedding)
        self.lstm = nn.LSTM(d.embedding + settings.code.size, d.hidden[0], len(d.hidden), batch_first=True)
        self.output = Projection(d.hidden[-1], shape.vocabulary)

    def forward(self, words: Tensor, code: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """words[B, T], code[B, D] -> hidden states [B, T, H] and the LSTM's state after them."""
        embedded = self.embedding(words)
        code = code.to(embedded.dtype)[:, None].expand(-1, words.shape[1], -1)
        hidden, state = self.lstm(torch.cat([embedded, code], 2), state)
        return hidden, state

    def logits(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor]:
        """logits[M, V] of the valid tokens alone, and the tokens [M] that stand there."""
        hidden, _ = self(batch.source, code)
        # which tokens are valid is worked out in main memory: asking the device would make it wait
        valid = torch.arange(batch.source.shape[1]) < batch.lengths[:, None]
        if bool(valid.all()):
            return self.output(hidden.flatten(0, 1)), batch.target.flatten()
        where = moved(valid.flatten().nonzero().squeeze(1), hidden.device)
        return self.output(hidden.flatten(0, 1)[where]), batch.target.flatten()[where]

    def nll(self, batch: TextBatch, code: Tensor) -> Tensor:
        """-log p(x | c) in nats, summed over the valid tokens; the end mark counts."""
        logits, target = self.logits(batch, code)
        return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), target, reduction="sum")

    def score(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Summed nats, tokens whose most probable value is right, and tokens, given the right words before each."""
        logits, target = self.logits(batch, code)
        nll = F.cross_entropy(logits, target, reduction="sum")
        return nll, (logits.argmax(1) == target).sum(), len(target)


def corrupted(batch: TextBatch, share: float, unknown: int, uniform: Tensor) -> TextBatch:
    """The batch with words of its source replaced by the unknown mark where uniform[B, >= T] < share; targets stay.

    The start mark stays as well. Padding may be replaced: it is never read.
    """
    drop = uniform[:, : batch.source.shape[1]] < share
    drop[:, 0] = False
    return TextBatch(batch.source.masked_fill(drop, unknown), batch.target, batch.lengths)
