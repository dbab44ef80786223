"""Which arithmetic a device computes the autoencoder in, and which it cannot."""

from functools import cache

import torch
from torch import nn

from arae_core.settings import Settings

FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""Instructions of processors with which products in bfloat16 are quicker than in float32."""


def precision_on(device: torch.device | str, settings: Settings) -> str:
    """The precision that `settings` ask for on that device: what they name, or what `auto` means there.

    That is bfloat16 on a processor with instructions for it, where an iteration takes half to two thirds of the time,
    and float32 elsewhere: without them bfloat16 is many times slower, and a GPU, whose LSTMs stay in float32, gains
    little by it. Workers on unlike machines may differ: their weights and gradients are float32 in either.
    """
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if torch.device(device).type == "cpu" and _bfloat16_is_fast() else "float32"


def check_precision(settings: Settings, device: torch.device | str) -> None:
    """Raise ValueError where a model of sentences is to be trained in bfloat16 on a processor that cannot. (To load one
    and use it, no bfloat16 is needed.)"""
    wanted = settings.precision == "bfloat16" and settings.kind == "text"
    if wanted and not lstm_runs_in_bfloat16(torch.device(device).type):
        raise ValueError(
            "precision must be auto or float32 on this processor, which cannot run LSTMs in bfloat16 (that takes "
            "AVX-512 or the like), got 'bfloat16'"
        )


@cache
def lstm_runs_in_bfloat16(device_type: str) -> bool:
    """Whether LSTMs can be run in bfloat16 there: a GPU, or a processor with AVX-512 or the like. Tried, not asked:
    what a processor needs differs from one release of torch to the next."""
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
