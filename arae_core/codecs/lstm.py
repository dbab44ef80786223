"""Encoder and decoder of sentences: LSTMs on padded, length-grouped batches.

Shapes: B sentences, T tokens with one mark, D numbers in a code, D' numbers of what a decoder is fed (the code,
and the attribute's vector), H units, V entries of the vocabulary, M valid tokens.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.code_space import to_sphere
from arae_core.data.batches import PaddedBatch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.settings import Settings

State = tuple[Tensor, Tensor]
IGNORED = -100
"""The target of a token that does not count."""
ROUND = 64
"""Logits are worked out for so many tokens or a multiple of it. In bfloat16 torch makes and keeps a program for every
number of them that it meets on a CPU, a megabyte each: half an hour of training grew to 8 GB."""
ROWS = 8
"""The same of sentences that are read or written at a time, where their number varies."""


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


def run_lstm(lstm: nn.LSTM, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """states [B, T, H] and the last one, of inputs[B, T, .]. On a GPU always in float32: autocast makes cuDNN's LSTM
    one of float16, whatever it was asked for, and the small gradients of step (3) fall out of that one's range."""
    if inputs.is_cuda and torch.is_autocast_enabled("cuda"):
        with torch.autocast("cuda", enabled=False):
            states, last = lstm(inputs.float(), state)
    else:
        states, last = lstm(inputs, state)
    return states, last


class TextEncoder(nn.Module):
    """enc_phi: the last state of an LSTM over the sentence, or its states' mean or greatest values, on the unit sphere
    (paper, section 5)."""

    markers: Tensor | None
    """Entries of the vocabulary that are read as unknown words, bool[V]; found when training begins."""

    def __init__(self, settings: Settings, spec: TextSpec):
        super().__init__()
        e = settings.encoder
        self.unit_sphere, self.pooling = settings.code.unit_sphere, e.pooling
        self.unknown = spec.unknown
        hides = e.marker_ratio and spec.classes
        self.register_buffer("markers", torch.zeros(spec.vocabulary, dtype=torch.bool) if hides else None)
        self.embedding = embedding(spec.vocabulary, e.embedding)
        self.lstm = nn.LSTM(e.embedding, e.hidden[0], len(e.hidden), batch_first=True)
        same = e.hidden[-1] == settings.code.size
        self.to_code = nn.Identity() if same else nn.Linear(e.hidden[-1], settings.code.size)

    def forward(self, batch: TextBatch) -> Tensor:
        """code[B, D]. States past each sentence's own length are not read, so padding changes nothing."""
        words = batch.source
        if self.markers is not None:
            words = words.masked_fill(self.markers[words], self.unknown)
        states, _ = run_lstm(self.lstm, self.embedding(words))
        code: Tensor = self.to_code(self._pooled(states, to_device(batch.lengths, states.device)))
        return to_sphere(code) if self.unit_sphere else code

    def _pooled(self, states: Tensor, lengths: Tensor) -> Tensor:
        """[B, H] of states[B, T, H], of which lengths[B] count."""
        if self.pooling == "last":
            return states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)
        there = (torch.arange(states.shape[1], device=states.device) < lengths[:, None])[:, :, None]
        if self.pooling == "mean":
            return (states * there).sum(1) / lengths[:, None]
        return states.masked_fill(~there, -torch.inf).amax(1)

    @torch.no_grad()
    def encode_mixed(self, batch: TextBatch, parts: int) -> Tensor:
        """code[B, D] of sentences of any lengths, without gradient: `parts` runs over sentences of like length each; of
        a padded batch one, which costs a GPU less than to ask for its order."""
        if isinstance(batch, PaddedBatch):
            code: Tensor = self(batch)
            return code
        order = batch.lengths.argsort(stable=True)
        codes = []
        for rows in order.chunk(parts):
            codes.append(self(batch.rows(rows)))
        code = torch.cat(codes)
        return torch.empty_like(code).index_copy_(0, to_device(order, code.device), code)


class TextDecoder(nn.Module):
    """p_psi(x | c), of labelled data p_psi(x | c, y): an LSTM that is fed the code at every step, beside it a vector of
    the class; its first state is zero."""

    def __init__(self, settings: Settings, spec: TextSpec):
        super().__init__()
        d = settings.decoder
        self.attribute = nn.Embedding(len(spec.classes), d.attribute_embedding) if spec.classes else None
        fed = settings.code.size + (d.attribute_embedding if spec.classes else 0)
        self.embedding = embedding(spec.vocabulary, d.embedding)
        self.lstm = nn.LSTM(d.embedding + fed, d.hidden[0], len(d.hidden), batch_first=True)
        self.output = Projection(d.hidden[-1], spec.vocabulary)

    def conditioned(self, code: Tensor, labels: Tensor | None) -> Tensor:
        """What `forward` is fed, [B, D'], for code[B, D] and labels[B] (in main memory)."""
        if self.attribute is None:
            return code
        assert labels is not None
        return torch.cat([code, self.attribute(to_device(labels, code.device)).to(code.dtype)], 1)

    def by_class(self, code: Tensor, labels: Tensor | None) -> Iterator[tuple["TextDecoder", Tensor, Tensor]]:
        """(decoder, rows, what it is fed), the rows together all of code[B, D]: here, all at once."""
        yield self, torch.arange(len(code)), self.conditioned(code, labels)

    def forward(self, words: Tensor, code: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """words[B, T], code[B, D'] -> hidden states [B, T, H] and the LSTM's state after them."""
        embedded = self.embedding(words)
        code = code.to(embedded.dtype)[:, None].expand(-1, words.shape[1], -1)
        return run_lstm(self.lstm, torch.cat([embedded, code], 2), state)

    def logits(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor]:
        """logits[M, V] of the valid tokens, and the tokens [M] that stand there; of a few more, so that M is a multiple
        of ROUND, and of a padded batch of all tokens. IGNORED stands where none counts."""
        hidden, _ = self(batch.source, self.conditioned(code, batch.labels))
        if isinstance(batch, PaddedBatch):
            return self.output(hidden.flatten(0, 1)), counted_targets(batch)
        # which tokens are valid is worked out in main memory: asking the device would make it wait
        valid = torch.arange(batch.source.shape[1]) < batch.lengths[:, None]
        if bool(valid.all()):
            return self.output(hidden.flatten(0, 1)), batch.target.flatten()
        where = to_device(valid.flatten().nonzero().squeeze(1), hidden.device)
        more = (0, -len(where) % ROUND)
        states = hidden.flatten(0, 1)[F.pad(where, more)]
        return self.output(states), F.pad(batch.target.flatten()[where], more, value=IGNORED)

    def nll(self, batch: TextBatch, code: Tensor) -> Tensor:
        """-log p(x | c) in nats, summed over the valid tokens; the end mark counts."""
        return summed_nats(*self.logits(batch, code))

    def nll_each(self, batch: TextBatch, code: Tensor) -> Tensor:
        """As `nll`, of each sentence by itself: [B]."""
        logits, target = self.logits(batch, code)
        nats = F.cross_entropy(logits.float(), target, reduction="none")[: int(batch.lengths.sum())]
        sentence = torch.repeat_interleave(torch.arange(len(batch)), batch.lengths)
        return torch.zeros(len(batch), device=nats.device).index_add_(0, to_device(sentence, nats.device), nats)

    def score(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Summed nats, tokens whose most probable value is right, and tokens, given the right words before each."""
        logits, target = self.logits(batch, code)
        nll = F.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)
        return nll, (logits.argmax(1) == target).sum(), int(batch.lengths.sum())


class SeparateDecoders(nn.Module):
    """p_psi(x | c, y) as released for transfer: a decoder a class, each with its own embedding and LSTM, one output
    layer for all."""

    def __init__(self, settings: Settings, spec: TextSpec):
        super().__init__()
        unlabelled = replace(spec, classes=())
        self.decoders = nn.ModuleList(TextDecoder(settings, unlabelled) for _ in spec.classes)
        self.output = Projection(settings.decoder.hidden[-1], spec.vocabulary)
        for decoder in self.decoders:
            del decoder.output
            decoder.__dict__["output"] = self.output  # used by each, a part of this module alone

    def by_class(self, code: Tensor, labels: Tensor | None) -> Iterator[tuple[TextDecoder, Tensor, Tensor]]:
        """(decoder, rows, what it is fed), the rows together all of code[B, D]: a decoder a class that occurs."""
        assert labels is not None
        for y, decoder in enumerate(self.decoders):
            rows = (labels == y).nonzero().squeeze(1)
            if len(rows):
                assert isinstance(decoder, TextDecoder)
                yield decoder, rows, code[to_device(rows, code.device)]

    def nll(self, batch: TextBatch, code: Tensor) -> Tensor:
        """-log p(x | c, y) in nats, summed over the valid tokens."""
        if isinstance(batch, PaddedBatch):  # whose rows cannot be told apart here: each decoder reads all of them
            assert batch.labels is not None
            read = torch.stack([decoder(batch.source, code)[0] for decoder in self.decoders])
            states = read[batch.labels, torch.arange(len(code), device=code.device)]
            return summed_nats(self.output(states.flatten(0, 1)), counted_targets(batch))
        parts = []
        for own, rows, fed in self.by_class(code, batch.labels):
            more = -len(rows) % ROWS if torch.is_autocast_enabled(code.device.type) else 0
            parts.append(own.nll(with_empty_rows(batch.rows(rows), more), F.pad(fed, (0, 0, 0, more))))
        assert batch.labels is not None
        present = set(batch.labels.tolist())
        for y, decoder in enumerate(self.decoders):
            if y not in present:  # its gradients are zero, not missing: ranks must average the same parameters
                parts.append(0 * torch.stack([p.sum() for p in decoder.parameters()]).sum())
        return torch.stack(parts).sum()

    def nll_each(self, batch: TextBatch, code: Tensor) -> Tensor:
        """As `nll`, of each sentence by itself: [B]."""
        nats = torch.zeros(len(batch), device=code.device)
        for decoder, rows, fed in self.by_class(code, batch.labels):
            nats[to_device(rows, code.device)] = decoder.nll_each(batch.rows(rows), fed)
        return nats

    def score(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """As TextDecoder.score, each sentence by the decoder of its class."""
        parts = [decoder.score(batch.rows(rows), fed) for decoder, rows, fed in self.by_class(code, batch.labels)]
        nll, right, count = zip(*parts, strict=True)
        return torch.stack(nll).sum(), torch.stack(right).sum(), sum(count)


def with_empty_rows(batch: TextBatch, more: int) -> TextBatch:
    """The batch with so many rows more of which no token counts."""
    if not more:
        return batch
    source, target = (F.pad(tokens, (0, 0, 0, more)) for tokens in (batch.source, batch.target))
    return TextBatch(source, target, F.pad(batch.lengths, (0, more)))


def counted_targets(batch: PaddedBatch) -> Tensor:
    """target[B * T] of a padded batch, IGNORED behind each sentence's end."""
    column = torch.arange(batch.target.shape[1], device=batch.target.device)
    return batch.target.masked_fill(column >= batch.lengths[:, None], IGNORED).flatten()


def summed_nats(logits: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy, in float32 at least, of logits[M, V] and target[M], summed over what is not IGNORED."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)


def corrupted(batch: TextBatch, share: float, unknown: int, uniform: Tensor) -> TextBatch:
    """The batch with words of its source replaced by the unknown mark where uniform[B, >= T] < share; targets stay.

    The start mark stays as well. Padding may be replaced: it is never read.
    """
    drop = uniform[:, : batch.source.shape[1]] < share
    drop[:, 0] = False
    return replace(batch, source=batch.source.masked_fill(drop, unknown))
