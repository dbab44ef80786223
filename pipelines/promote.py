"""List the registered models, or point an alias at one of them.

python pipelines/promote.py
python pipelines/promote.py --model models:/arae-snli/3 --alias champion
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import promotion
from pipelines.cli.command_line import Option, parse_options, run

OPTIONS = (
    Option("model", str, "", "models:/NAME/VERSION or models:/NAME@ALIAS to promote (default: list all models)."),
    Option("alias", str, None, "Alias for --model (default: champion)."),
    Option("list", bool, False, "List the registered models (with --model: after promoting)."),
)


def promote(arguments: Sequence[str] | None) -> None:
    promotion.promote(parse_options(arguments, "List the registered models, or set an alias.", OPTIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(promote, arguments)


if __name__ == "__main__":
    sys.exit(main())
