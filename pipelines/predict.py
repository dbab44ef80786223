"""Classify sentences or pairs of sentences with a classifier that classify.py trained: one class per line of input.

    python pipelines/predict.py --model runs/classifications/NAME/classifiers/BEST < examples.txt

The two sentences of a pair are on one line, separated by a tab.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import model_commands
from pipelines.cli.command_line import Option, parse_options, run
from pipelines.cli.model_options import INPUT, OUTPUT

OPTIONS = (
    Option("model", Path, None, "Folder of a classifier, as printed by classify.py.", required=True),
    INPUT,
    Option("pairs", bool, False, "Write each example and a tab before its class."),
    OUTPUT,
)


def predict(arguments: Sequence[str] | None) -> None:
    model_commands.predict(parse_options(arguments, "Classify sentences.", OPTIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(predict, arguments)


if __name__ == "__main__":
    sys.exit(main())
