"""LSTM encoder and decoder of sentences (paper, section 5).

Shapes: B sentences, T tokens with one mark, D numbers in a code, D' numbers fed to a decoder (the code, and the vector
of the class), H units, V entries of the vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.codecs.text import (
    IGNORED,
    Projection,
    counted_states,
    embedding,
    initialize_as_released,
    nats_of_sentences,
    summed_nats,
)
from arae_core.data.batches import PaddedBatch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.settings import Settings

LSTMState = tuple[Tensor, Tensor]
"""(h, c), each [layers, B, H]."""


class LSTM:
    """The codec: an LSTM on either side."""

    @staticmethod
    def encoder(settings: Settings, spec: TextSpec) -> "LSTMEncoder":
        """Build the encoder."""
        return LSTMEncoder(settings, spec)

    @staticmethod
    def decoder(settings: Settings, spec: TextSpec) -> nn.Module:
        """Build the decoder: one for all classes, or one for each."""
        if spec.classes and settings.decoder.conditioning == "separate":
            from arae_core.codecs.lstm_per_class import SeparateDecoders

            return SeparateDecoders(settings, spec)
        return LSTMDecoder(settings, spec)


def run_lstm(lstm: nn.LSTM, inputs: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
    """Run an LSTM on inputs[B, T, .]; return its states [B, T, H] and the last one.

    On a GPU it always runs in float32. Autocast would run cuDNN's LSTM in float16, whatever was asked for, and the
    small gradients of step (3) underflow there.
    """
    if inputs.is_cuda and torch.is_autocast_enabled("cuda"):
        with torch.autocast("cuda", enabled=False):
            states, last = lstm(inputs.float(), state)
    else:
        states, last = lstm(inputs, state)
    return states, last


class LSTMEncoder(nn.Module):
    """enc_phi: the last state of an LSTM over the sentence, or the mean or the maximum of its states."""

    markers: Tensor | None
    """Entries of the vocabulary that are read as unknown words, bool[V]; set when training begins."""

    def __init__(self, settings: Settings, spec: TextSpec) -> None:
        super().__init__()
        e = settings.encoder
        self.pooling, self.unknown = e.pooling, spec.unknown
        hides = e.marker_ratio and spec.classes
        self.register_buffer("markers", torch.zeros(spec.vocabulary, dtype=torch.bool) if hides else None)
        self.embedding = embedding(spec.vocabulary, e.embedding)
        self.lstm = nn.LSTM(e.embedding, e.hidden[0], len(e.hidden), batch_first=True)
        same = e.hidden[-1] == settings.code.size
        self.to_code = nn.Identity() if same else nn.Linear(e.hidden[-1], settings.code.size)

    def forward(self, batch: TextBatch) -> Tensor:
        """Return [B, D]. States behind the end of a sentence are not read, so padding changes nothing."""
        words = batch.source
        if self.markers is not None:
            words = words.masked_fill(self.markers[words], self.unknown)
        states, _ = run_lstm(self.lstm, self.embedding(words))
        output: Tensor = self.to_code(self._pooled(states, to_device(batch.lengths, states.device)))
        return output

    def _pooled(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool the first lengths[B] of states[B, T, H] to [B, H]."""
        if self.pooling == "last":
            return states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)
        valid = (torch.arange(states.shape[1], device=states.device) < lengths[:, None])[:, :, None]
        if self.pooling == "mean":
            return (states * valid).sum(1) / lengths[:, None]
        return states.masked_fill(~valid, -torch.inf).amax(1)

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


@dataclass(frozen=True)
class DecoderState:
    """fed[N, D'] at every step, and the LSTM's state; None before the first word."""

    fed: Tensor
    lstm: LSTMState | None = None


class LSTMDecoder(nn.Module):
    """p_psi(x | c), for labelled data p_psi(x | c, y): an LSTM with state zero at the start, fed the code at every step
    and, for labelled data, a vector of the class."""

    def __init__(self, settings: Settings, spec: TextSpec) -> None:
        super().__init__()
        d = settings.decoder
        self.attribute = nn.Embedding(len(spec.classes), d.attribute_embedding) if spec.classes else None
        fed = settings.code.size + (d.attribute_embedding if spec.classes else 0)
        self.embedding = embedding(spec.vocabulary, d.embedding)
        self.lstm = nn.LSTM(d.embedding + fed, d.hidden[0], len(d.hidden), batch_first=True)
        self.output = Projection(d.hidden[-1], spec.vocabulary)

    def conditioned(self, code: Tensor, labels: Tensor | None) -> Tensor:
        """The vectors [B, D'] that are fed at every step, for code[B, D] and labels[B] (in main memory)."""
        if self.attribute is None:
            return code
        assert labels is not None
        return torch.cat([code, self.attribute(to_device(labels, code.device)).to(code.dtype)], 1)

    def forward(self, words: Tensor, fed: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Return the hidden states [B, T, H] for words[B, T] and fed[B, D'], and the LSTM's state after them."""
        embedded = self.embedding(words)
        fed = fed.to(embedded.dtype)[:, None].expand(-1, words.shape[1], -1)
        return run_lstm(self.lstm, torch.cat([embedded, fed], 2), state)

    def logits(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, V] of the tokens that count, and their targets [M]; see `text.counted_states`."""
        states, _ = self(batch.source, self.conditioned(code, batch.labels))
        counted, target = counted_states(batch, states)
        return self.output(counted), target

    def nll(self, batch: TextBatch, code: Tensor) -> Tensor:
        """-log p(x | c) in nats, summed over the valid tokens; the end mark counts."""
        return summed_nats(*self.logits(batch, code))

    def nll_each(self, batch: TextBatch, code: Tensor) -> Tensor:
        """Like `nll`, for each sentence: [B]."""
        return nats_of_sentences(*self.logits(batch, code), batch.lengths)

    def score(self, batch: TextBatch, code: Tensor) -> tuple[Tensor, Tensor, int]:
        """Summed nats, tokens predicted right, and tokens, each given the right words before it."""
        logits, target = self.logits(batch, code)
        nll = F.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)
        return nll, (logits.argmax(1) == target).sum(), int(batch.lengths.sum())

    def start(self, code: Tensor, labels: Tensor | None) -> DecoderState:
        """The state before the first word."""
        return DecoderState(self.conditioned(code, labels))

    def step(self, state: DecoderState, words: Tensor) -> tuple[Tensor, DecoderState]:
        """Read words[N]; return the logits [N, V] of the next ones and the state after the words."""
        states, lstm = self(words[:, None], state.fed, state.lstm)
        return self.output(states[:, 0]).float(), DecoderState(state.fed, lstm)

    def select(self, state: DecoderState, rows: Tensor) -> DecoderState:
        """The state of the sentences at rows[M] alone."""
        lstm = state.lstm and (state.lstm[0][:, rows].contiguous(), state.lstm[1][:, rows].contiguous())
        return DecoderState(state.fed[rows], lstm)

    def initialize_as_released(self) -> None:
        """U(-0.1, 0.1), the output's bias 0."""
        initialize_as_released(self)
