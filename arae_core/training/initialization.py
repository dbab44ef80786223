"""Initialization of new models, beyond torch's defaults."""

import torch
from torch import nn


@torch.no_grad()
def open_forget_gates(modules: nn.Module) -> None:
    """Set the bias of the forget gates of all LSTMs to 1, so that they keep their input from the start (Jozefowicz et
    al. 2015, section 5). A gate has two biases; the second becomes 0."""
    for module in modules.modules():
        if isinstance(module, nn.LSTM):
            for name, bias in module.named_parameters():
                if name.startswith("bias"):  # of the gates: input, forget, cell, output
                    bias[module.hidden_size : 2 * module.hidden_size] = float(name.startswith("bias_ih"))


@torch.no_grad()
def initialize_as_released(modules: nn.ModuleDict) -> None:
    """Initialize encoder and decoder as their codec says, and all other parts from N(0, 0.02) with bias 0, gains of
    normalization included, as the released code does."""
    for name, module in modules.items():
        if name in ("encoder", "decoder"):
            module.initialize_as_released()  # type: ignore[operator]
            continue
        for path, parameter in module.named_parameters():
            parameter.zero_() if path.endswith("bias") else parameter.normal_(0, 0.02)
