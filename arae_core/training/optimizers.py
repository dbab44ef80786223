"""Optimizers of the parts of a model, and their learning rates."""

import torch
from torch import Tensor

from arae_core.settings import TrainedSection


def make_optimizer(
    settings: TrainedSection, parameters: list[torch.nn.Parameter], *, cools: bool
) -> torch.optim.Optimizer:
    """Build the optimizer of a part.

    cools: True if its learning rate will change; on a GPU the rate then lies there, where a captured step reads it.
    """
    device, decay = parameters[0].device, settings.weight_decay
    on_gpu = device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device) if cools and on_gpu else settings.learning_rate
    if settings.optimizer == "sgd":  # without momentum, decoupled decay and decay through the gradient are the same
        return torch.optim.SGD(parameters, rate, weight_decay=decay, fused=True)
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay, fused=True, capturable=on_gpu)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
