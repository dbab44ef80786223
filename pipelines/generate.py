"""Sample from a trained model: one sentence per line, or a picture of images.

python pipelines/generate.py --model models:/arae-grammar@champion --count 10 --seed 0 [--output samples.txt]
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import model_commands
from pipelines.cli.command_line import Option, parse_options, run
from pipelines.cli.model_options import MODEL, SEED, TEMPERATURE, output_option

OPTIONS = (
    MODEL,
    Option("count", int, 10, "Number of samples."),
    Option("attribute", str, "", "Class of all samples, for a model with classes (default: each class in turn)."),
    SEED,
    replace(TEMPERATURE, default=None, help=f"{TEMPERATURE.help[:-1]} (default: as in model selection)."),
    output_option("generated.png"),
)


def generate(arguments: Sequence[str] | None) -> None:
    model_commands.generate(parse_options(arguments, "Sample from a trained model.", OPTIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(generate, arguments)


if __name__ == "__main__":
    sys.exit(main())
