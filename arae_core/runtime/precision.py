"""Precision of the autoencoder's arithmetic on a device."""

from functools import cache

import torch
from torch import nn

from arae_core.settings import Settings

FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""CPU instructions with which matrix products are faster in bfloat16 than in float32."""


def precision_on(device: torch.device | str, settings: Settings) -> str:
    """Return the precision of the settings, with `auto` resolved for the device.

    `auto` is bfloat16 on a CPU with instructions for it, where it takes half to two thirds of the time of float32, and
    float32 elsewhere. On other CPUs bfloat16 is many times slower, and a GPU, whose LSTMs stay in float32, gains
    little. Workers on different machines may differ, because weights and gradients are float32 in both.
    """
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if torch.device(device).type == "cpu" and _bfloat16_is_fast() else "float32"


def check_precision(settings: Settings, device: torch.device | str) -> None:
    """Raise ValueError if this CPU cannot train a model of sentences in bfloat16. It can still use the model."""
    wanted = settings.precision == "bfloat16" and settings.kind == "text"
    if wanted and not lstm_runs_in_bfloat16(torch.device(device).type):
        raise ValueError(
            "precision must be auto or float32 on this CPU, which cannot run LSTMs in bfloat16 (they need AVX-512 or "
            "similar instructions), got 'bfloat16'"
        )


@cache
def lstm_runs_in_bfloat16(device_type: str) -> bool:
    """Return True if LSTMs run in bfloat16: on a GPU, and on a CPU with AVX-512 or similar instructions.

    A small LSTM is run to find out, because the requirements differ between releases of torch.
    """
    if device_type == "cuda":
        return True
    try:
        with torch.no_grad(), torch.autocast(device_type, torch.bfloat16):
            nn.LSTM(2, 3, batch_first=True)(torch.zeros(1, 2, 2))
    except RuntimeError:
        return False
    return True


@cache
def _bfloat16_is_fast() -> bool:
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in FAST_BFLOAT16) and lstm_runs_in_bfloat16("cpu")
