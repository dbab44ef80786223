"""Codes: the space between encoder and decoder.

A code is one file here and its entry in CODES. Its class is a module, built from the settings, with the methods of
`Code`. If it has parameters, they are trained with the encoder.
"""

from typing import TYPE_CHECKING, Protocol

from arae_core.variants import Room, Variant

if TYPE_CHECKING:
    from torch import Tensor

CODES: Room = {
    "sphere": Variant("arae_core.codes.sphere:Sphere"),
    "euclidean": Variant("arae_core.codes.euclidean:Euclidean"),
}
"""Name, as `code.kind` spells it -> where it stands and which settings it reads."""


class Code(Protocol):
    """A space of codes of D = `code.size` numbers."""

    def __call__(self, output: "Tensor") -> "Tensor":
        """Map the encoder's output [B, D] to codes [B, D]."""

    def noised(self, code: "Tensor", noise: "Tensor") -> "Tensor":
        """Codes [B, D] as the decoder reads them in step (1). noise[B, D]: Gaussian, of the current radius."""

    def path(self, first: "Tensor", second: "Tensor", steps: int) -> "Tensor":
        """`steps` points [steps, D] from first[D] to second[D], both included. Raise ValueError for steps < 2."""

    def auxiliary_loss(self, output: "Tensor", code: "Tensor") -> "Tensor | None":
        """A loss of its own that step (1) adds to the reconstruction's, a mean over rows; None: there is none."""
