"""Rewrite sentences with another attribute: one line of output for each line of input.

    python pipelines/transfer.py --model models:/arae-grammar-sentiment@champion --to positive < sentences.txt
    python pipelines/transfer.py --model ... --from-like sad.txt --to-like happy.txt < sentences.txt

The first form needs a model that was trained with the attribute (paper, Algorithm 2). The second works with any model
of sentences: it adds to each code the mean code of the sentences in one file minus that of the other file.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import model_commands
from pipelines.cli.command_line import Option, parse_options, run
from pipelines.cli.model_options import CONTRAST, INPUT, MODEL, OUTPUT, SEED, TEMPERATURE

OPTIONS = (
    MODEL,
    Option("to", str, "", "Target class."),
    Option("from_like", Path, None, "Without --to: file of sentences like the input, one per line."),
    Option("to_like", Path, None, "Without --to: file of sentences like the desired output."),
    Option("strength", float, None, "Without --to: factor of the difference of the mean codes (default: 1)."),
    CONTRAST,
    INPUT,
    Option("pairs", bool, False, "Write each original and a tab before its rewriting."),
    SEED,
    TEMPERATURE,
    OUTPUT,
)


def transfer(arguments: Sequence[str] | None) -> None:
    model_commands.transfer(parse_options(arguments, "Rewrite sentences with another attribute.", OPTIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(transfer, arguments)


if __name__ == "__main__":
    sys.exit(main())
