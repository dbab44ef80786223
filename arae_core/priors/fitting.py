"""Fitting a prior to the codes of training data, during training or on a finished model."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from arae_core.data.batches import Store, make_batch
from arae_core.priors import PRIORS, Prior
from arae_core.settings import PriorSettings

if TYPE_CHECKING:
    from arae_core.training.state import TrainingState

FITTED_EXAMPLES = 4096
"""Training examples whose codes a prior is fitted to."""
STREAM = 3
"""Stream of the random choice of examples, beside those of `BatchSampler`."""


def is_fitted(prior: Prior) -> bool:
    """True if the prior is fitted to codes."""
    return hasattr(prior, "fit")


@torch.no_grad()
def fit_prior(state: "TrainingState", store: Store, examples: int = FITTED_EXAMPLES) -> None:
    """Fit the prior of a state to the codes of up to `examples` examples of a store, the same on every rank.

    Raise ValueError for a prior that is not fitted to codes and for an empty store.
    """
    if not is_fitted(state.prior):
        raise ValueError(f"prior.kind {state.settings.chosen('prior.kind')[0]} is not fitted to codes")
    if not len(store):
        raise ValueError("there are no examples to fit a prior to")
    rng = np.random.default_rng((state.settings.seed, STREAM))
    chosen = rng.permutation(len(store))[:examples]
    state.modules.eval()
    codes = [
        state.encode_mixed(make_batch(store, rows, state.spec, state.device)).to(state.dtype)
        for rows in np.array_split(chosen, max(1, len(chosen) // 512))
    ]
    state.modules["prior"].fit(torch.cat(codes))  # type: ignore[operator]
    state.modules.train()


def replace_prior(state: "TrainingState", store: Store, kind: str, examples: int = FITTED_EXAMPLES) -> "TrainingState":
    """Return a finished model with another prior, fitted to the codes of a store; all other parts are shared.

    The optimizers are new: the state is for sampling, not for training on. Raise ValueError for an unknown kind, for a
    prior that the objective has to train, and as `fit_prior` does.
    """
    if kind not in PRIORS:
        raise ValueError(f"prior.kind must be one of {', '.join(PRIORS)}, got {kind!r}")
    settings = replace(state.settings, prior=PriorSettings(kind=kind))
    fresh = type(state)(settings, state.spec, state.device)
    for name, module in state.modules.items():
        if name not in ("prior", "average"):
            fresh.modules[name] = module
    prior = PRIORS[kind].load()(settings, fresh.code)
    if list(prior.parameters()):
        raise ValueError(f"prior.kind {kind} is trained by the objective, it cannot be fitted to a finished model")
    fresh.modules["prior"] = prior.to(state.device, state.dtype)
    fresh.step = state.step
    if is_fitted(fresh.prior):
        fit_prior(fresh, store, examples)
    return fresh
