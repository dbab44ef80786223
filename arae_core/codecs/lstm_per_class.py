"""A decoder for each class, as released for transfer. Shapes: as in `lstm`; K classes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.codecs.lstm import DecoderState, LSTMDecoder
from arae_core.codecs.text import ROWS, Projection, counted_targets, initialize_as_released, summed_nats
from arae_core.data.batches import PaddedBatch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.settings import Settings


@dataclass(frozen=True)
class StatesByClass:
    """The state of every class's decoder, and the rows of the batch that it writes.

    labels[N] (in main memory); rows: class -> indices [n] of its sentences; states: class -> state of at least n rows.
    """

    labels: Tensor
    rows: dict[int, Tensor]
    states: dict[int, DecoderState]


class SeparateDecoders(nn.Module):
    """p_psi(x | c, y): each class has an embedding and an LSTM of its own; all share one output layer."""

    def __init__(self, settings: Settings, spec: TextSpec) -> None:
        super().__init__()
        unlabelled = replace(spec, classes=())
        self.decoders = nn.ModuleList(LSTMDecoder(settings, unlabelled) for _ in spec.classes)
        self.output = Projection(settings.decoder.hidden[-1], spec.vocabulary)
        for decoder in self.decoders:
            del decoder.output
            decoder.__dict__["output"] = self.output  # used by each, a part of this module alone

    def decoder_of(self, label: int) -> LSTMDecoder:
        """The decoder of a class."""
        decoder = self.decoders[label]
        assert isinstance(decoder, LSTMDecoder)
        return decoder

    def by_class(self, labels: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """(class, its rows [n] in main memory) for every class that occurs in labels[B]."""
        assert labels is not None
        for label in range(len(self.decoders)):
            rows = (labels == label).nonzero().squeeze(1)
            if len(rows):
                yield label, rows

    def nll(self, batch: TextBatch, code: Tensor) -> Tensor:
        """-log p(x | c, y) in nats, summed over the valid tokens."""
        if isinstance(batch, PaddedBatch):  # its labels lie on the device: each decoder reads all rows
            assert batch.labels is not None
            read = torch.stack([self.decoder_of(y)(batch.source, code)[0] for y in range(len(self.decoders))])
            states = read[batch.labels, torch.arange(len(code), device=code.device)]
            return summed_nats(self.output(states.flatten(0, 1)), counted_targets(batch))
        parts, present = [], set()
        for label, rows in self.by_class(batch.labels):
            more = -len(rows) % ROWS if torch.is_autocast_enabled(code.device.type) else 0
            own = F.pad(code[to_device(rows, code.device)], (0, 0, 0, more))
            parts.append(self.decoder_of(label).nll(with_empty_rows(batch.rows(rows), more), own))
            present.add(label)
        for label, decoder in enumerate(self.decoders):
            if label not in present:  # zero gradients, not missing ones: ranks must sum the same parameters
                parts.append(0 * torch.stack([p.sum() for p in decoder.parameters()]).sum())
        return torch.stack(parts).sum()

    def nll_each(self, batch: TextBatch, code: Tensor) -> Tensor:
        """Like `nll`, for each sentence: [B]."""
        nats = torch.zeros(len(batch), device=code.device)
        for label, rows in self.by_class(batch.labels):
            there = to_device(rows, code.device)
            nats[there] = self.decoder_of(label).nll_each(batch.rows(rows), code[there])
        return nats

    def score(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Like LSTMDecoder.score, each sentence by the decoder of its class."""
        parts = [
            self.decoder_of(label).score(batch.rows(rows), code[to_device(rows, code.device)])
            for label, rows in self.by_class(batch.labels)
        ]
        nll, right, count = zip(*parts, strict=True)
        return torch.stack(nll).sum(), torch.stack(right).sum(), sum(count)

    def start(self, code: Tensor, labels: Tensor | None) -> StatesByClass:
        """The states before the first word."""
        assert labels is not None
        rows = {label: to_device(own, code.device) for label, own in self.by_class(labels)}
        states = {y: self.decoder_of(y).start(code[_rounded(own)], None) for y, own in rows.items()}
        return StatesByClass(labels, rows, states)

    def step(self, state: StatesByClass, words: Tensor) -> tuple[Tensor, StatesByClass]:
        """Read words[N]; return the logits [N, V] of the next ones and the states after the words."""
        logits = words.new_empty((len(words), self.output.bias.numel()), dtype=torch.float32)
        states = {}
        for label, rows in state.rows.items():
            own, states[label] = self.decoder_of(label).step(state.states[label], words[_rounded(rows)])
            logits[rows] = own[: len(rows)]
        return logits, replace(state, states=states)

    def select(self, state: StatesByClass, rows: Tensor) -> StatesByClass:
        """The states of the sentences at rows[M] alone."""
        kept = state.labels[rows.cpu()]
        place = torch.zeros(len(state.labels), dtype=torch.long, device=rows.device)
        for own in state.rows.values():
            place[own] = torch.arange(len(own), device=own.device)
        after = {label: to_device(own, rows.device) for label, own in self.by_class(kept)}
        states = {
            label: self.decoder_of(label).select(state.states[label], place[rows[_rounded(own)]])
            for label, own in after.items()
        }
        return StatesByClass(kept, after, states)

    def initialize_as_released(self) -> None:
        """U(-0.1, 0.1), the output's bias 0."""
        initialize_as_released(self)


def _rounded(rows: Tensor) -> Tensor:
    """rows[n] and its first element as often as makes their number a multiple of ROWS."""
    return torch.cat([rows, rows[:1].expand(-len(rows) % ROWS)])


def with_empty_rows(batch: TextBatch, more: int) -> TextBatch:
    """The batch with `more` rows in which no token counts."""
    if not more:
        return batch
    source, target = (F.pad(tokens, (0, 0, 0, more)) for tokens in (batch.source, batch.target))
    return TextBatch(source, target, F.pad(batch.lengths, (0, more)))
