"""Codecs: encoders and decoders of one architecture.

A codec is one file here and its entry in CODECS. Its class has two functions, `encoder(settings, spec)` and
`decoder(settings, spec)`, which return modules with the methods of `Encoder`, and of `TextDecoder` or `ImageDecoder`.
"""

from typing import TYPE_CHECKING, Any, Protocol

from arae_core.variants import Room, Variant

if TYPE_CHECKING:
    from torch import Tensor

CODECS: Room = {
    "lstm": Variant(
        "arae_core.codecs.lstm:LSTM",
        (
            *("encoder.embedding", "encoder.pooling", "encoder.marker_ratio"),
            *("decoder.embedding", "decoder.conditioning", "decoder.attribute_embedding", "decoder.alignment_weight"),
        ),
        data=("text",),
    ),
    "mlp": Variant(
        "arae_core.codecs.mlp:MLP",
        ("encoder.normalization", "decoder.normalization", "decoder.logits_per_pixel"),
        data=("image",),
    ),
}
"""Name, as `encoder.kind` and `decoder.kind` spell it -> where it stands, the settings it reads, and for which data."""


class Encoder(Protocol):
    """enc_phi, up to the map to the code space (`arae_core.codes`)."""

    def __call__(self, batch: Any) -> "Tensor":
        """Encode a batch: [B, D]. Padding changes nothing."""

    def encode_mixed(self, batch: Any, parts: int) -> "Tensor":
        """Encode a batch of mixed lengths without gradients: [B, D], in `parts` runs of like length where that
        helps."""

    def initialize_as_released(self) -> None:
        """Initialize the weights as the released code does."""


class Decoder(Protocol):
    """p_psi(x | c), for labelled data p_psi(x | c, y); classes y are in the batch."""

    def nll(self, batch: Any, code: "Tensor") -> "Tensor":
        """-log p(x | c) in nats, a scalar: the sum over all tokens or pixels that count."""

    def score(self, batch: Any, code: "Tensor") -> "tuple[Tensor, Tensor, int]":
        """Summed nats, the number of tokens or pixels whose most probable value is right, and the number of all."""

    def initialize_as_released(self) -> None:
        """Initialize the weights as the released code does."""


class TextDecoder(Decoder, Protocol):
    """A decoder of sentences, word by word. N sentences are written at a time; V entries are in the vocabulary."""

    def nll_each(self, batch: Any, code: "Tensor") -> "Tensor":
        """Like `nll`, for each sentence: [B]."""

    def start(self, code: "Tensor", labels: "Tensor | None") -> Any:
        """The state before the first word, for code[N, D] and classes labels[N] (in main memory; None: no classes)."""

    def step(self, state: Any, words: "Tensor") -> "tuple[Tensor, Any]":
        """Read words[N]; return the logits [N, V] of the next ones, in float32, and the state after the words."""

    def select(self, state: Any, rows: "Tensor") -> Any:
        """The state of the sentences at rows[M] alone."""


class ImageDecoder(Decoder, Protocol):
    """A decoder of binary images."""

    def __call__(self, code: "Tensor") -> "Tensor":
        """The logits [B, P] of each pixel being 1, for code[B, D]."""
