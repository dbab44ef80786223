"""LSTM encoder and decoder of sentences (paper, section 5).

Shapes: as in `text`; N sentences that are written at a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arae_core.codecs.text import Projection, SentenceDecoder, SentenceEncoder, embedding
from arae_core.data.batches import TextBatch, to_device
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


class LSTMEncoder(SentenceEncoder):
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


@dataclass(frozen=True)
class DecoderState:
    """fed[N, D'] at every step, and the LSTM's state; None before the first word."""

    fed: Tensor
    lstm: LSTMState | None = None


class LSTMDecoder(SentenceDecoder):
    """p_psi(x | c), for labelled data p_psi(x | c, y): an LSTM with state zero at the start, fed the code at every step
    and, for labelled data, a vector of the class."""

    def __init__(self, settings: Settings, spec: TextSpec) -> None:
        super().__init__(settings, spec)
        d = settings.decoder
        self.embedding = embedding(spec.vocabulary, d.embedding)
        self.lstm = nn.LSTM(d.embedding + self.fed_size, d.hidden[0], len(d.hidden), batch_first=True)
        self.output = Projection(d.hidden[-1], spec.vocabulary)

    def forward(self, words: Tensor, fed: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Return the hidden states [B, T, H] for words[B, T] and fed[B, D'], and the LSTM's state after them."""
        embedded = self.embedding(words)
        fed = fed.to(embedded.dtype)[:, None].expand(-1, words.shape[1], -1)
        return run_lstm(self.lstm, torch.cat([embedded, fed], 2), state)

    def states(self, batch: TextBatch, fed: Tensor) -> Tensor:
        """The hidden states [B, T, H] over the sentences of a batch."""
        states: Tensor = self(batch.source, fed)[0]
        return states

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
