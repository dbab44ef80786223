"""Priors: where the codes of samples come from.

A prior is one file here and its entry in PRIORS. Its class is a module, built from the settings and from the code
(`arae_core.codes`), with the attributes of `Prior`.
"""

from typing import TYPE_CHECKING, Protocol

from arae_core.variants import Room, Variant

if TYPE_CHECKING:
    from torch import Tensor

PRIORS: Room = {
    "generator": Variant("arae_core.priors.generator:Generator", ("generator",)),
    "gaussian": Variant("arae_core.priors.gaussian:Gaussian"),
    "fitted-gaussian": Variant("arae_core.priors.fitted_gaussian:FittedGaussian"),
}
"""Name, as `prior.kind` spells it -> where it stands and which settings it reads."""


class Prior(Protocol):
    """A distribution of codes, as a function of noise z[B, Z] ~ N(0, I).

    Parameters, if it has any, are trained by the objective in step (3), with the rates of `generator.*`.
    A prior without parameters may have a method `fit(codes[N, D]) -> None` that fits its buffers, in place, to codes of
    the training data. It is called before every report of a training, and may be called on a finished model.
    """

    noise_size: int
    """Z, the numbers of noise in a draw."""

    def __call__(self, noise: "Tensor") -> "Tensor":
        """Map noise[B, Z] to codes c~[B, D]."""
