"""Interpolate in the code space: between two sentences, or between two random noise vectors.

python pipelines/interpolate.py --model ... --between "a man is sleeping ." "two dogs run outside ." --steps 7
python pipelines/interpolate.py --model ... --seed 3
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import model_commands
from pipelines.cli.command_line import Option, parse_options, run
from pipelines.cli.model_options import MODEL, SEED, output_option

OPTIONS = (
    MODEL,
    Option(
        "between",
        str,
        None,
        "Two sentences, or for an image model the seeds of two samples (default: two random noise vectors).",
        values=2,
    ),
    Option("steps", int, 7, "Number of points, both ends included."),
    SEED,
    output_option("interpolation.png"),
)


def interpolate(arguments: Sequence[str] | None) -> None:
    model_commands.interpolate(parse_options(arguments, "Interpolate in the code space of a trained model.", OPTIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(interpolate, arguments)


if __name__ == "__main__":
    sys.exit(main())
