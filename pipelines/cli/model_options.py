"""Options of the commands that use a trained model, and checks of their values.

All checks raise a ValueError that names the flag, its value and what is allowed.
"""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from arae_core.settings import MOST_CONTRAST
from arae_core.settings.checks import between
from pipelines.cli.flags import Option

if TYPE_CHECKING:
    from arae_core.model import Model

MODEL = Option("model", str, None, "models:/NAME/VERSION, models:/NAME@ALIAS or a checkpoint folder.", required=True)
INPUT = Option("input", Path, None, "UTF-8 file with one sentence per line (default: stdin).")
SEED = Option("seed", int, 0, "Random seed.")
TEMPERATURE = Option(
    "temperature", float, 0.0, "Sampling temperature; 0: the most probable word or pixel, 1: the model's distribution."
)
CONTRAST = Option(
    "contrast",
    float,
    None,
    "Penalty on words that the other classes also predict, applied during transfer (default: the model's own).",
)
OUTPUT = Option("output", Path, None, "Output file (default: stdout).")


def output_option(picture: str) -> Option:
    """Return --output for a command that writes sentences, or a PNG picture if the model is one of images."""
    return replace(
        OUTPUT, help=f"Output file; a PNG picture for image models (default: stdout, or {picture} for images)."
    )


def check_output(output: Path | None) -> None:
    """Check that the output file, if there is one, can be written."""
    if output is not None and not os.access(output.parent, os.W_OK):
        state = "is not writable" if output.parent.is_dir() else "does not exist"
        raise ValueError(f"--output {output}: the folder {output.parent} {state}")
    if output is not None and output.is_dir():
        raise ValueError(f"--output {output} is a folder; name a file")


def check_sampling(seed: int, temperature: float = 0.0) -> None:
    """Check the seed and the sampling temperature."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be in [0, 2**32), got {seed}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"--temperature must be >= 0 and finite, got {temperature}")


def check_memory(flag: str, count: int, model: "Model") -> None:
    """Check that `count` noise vectors and codes, which are held at the same time, fit into memory."""
    bytes_each = (model.state.prior.noise_size + model.settings.code.size) * model.state.dtype.itemsize
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // bytes_each
    if count > limit:
        raise ValueError(f"{flag} must be <= {limit}, got {count}: the codes would not fit into this machine's memory")


def check_contrast(contrast: float | None) -> None:
    """Check the contrast, if it is given."""
    if contrast is not None:
        between("--contrast", contrast, 0, MOST_CONTRAST)


def check_attribute(flag: str, model: "Model", attribute: str) -> None:
    """Check that the model was trained with this class."""
    if not model.classes:
        raise ValueError(
            f"{flag} {attribute}: this model has no attribute; train one with --data.label COLUMN (as --config yelp "
            "and --config grammar-sentiment do), or use transfer.py's --from-like and --to-like"
        )
    if attribute not in model.classes:
        raise ValueError(f"{flag} must be one of {', '.join(model.classes)}, got {attribute!r}")
