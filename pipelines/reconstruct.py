"""Encode and decode sentences: one line of output for each line of input.

    python pipelines/reconstruct.py --model ... --input sentences.txt [--pairs] [--output out.txt]

Without --input, reads stdin. For an image model, a line is one image: its pixels, 0 or 1, row by row.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import model_commands
from pipelines.cli.command_line import Option, parse_options, run
from pipelines.cli.model_options import INPUT, MODEL, SEED, TEMPERATURE, output_option

OPTIONS = (
    MODEL,
    replace(INPUT, help="UTF-8 file with one sentence or image per line (default: stdin)."),
    Option("pairs", bool, False, "Write each original before its reconstruction (sentences: separated by a tab)."),
    SEED,
    TEMPERATURE,
    output_option("reconstruction.png"),
)


def reconstruct(arguments: Sequence[str] | None) -> None:
    model_commands.reconstruct(parse_options(arguments, "Reconstruct sentences or images.", OPTIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(reconstruct, arguments)


if __name__ == "__main__":
    sys.exit(main())
