"""Console command: `arae tune ...` is `python pipelines/tune.py ...`, and so on for every command."""

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = (
    *("tune", "train", "classify"),
    *("generate", "interpolate", "reconstruct", "transfer", "predict", "evaluate", "promote"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status. sys.argv becomes the command's own."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print("usage: arae COMMAND [--FLAG VALUE ...]\n\ncommands:")
        print("\n".join(f"  {command:{width}}  {_description(command)}" for command in COMMANDS))
        print("\n`arae COMMAND --help` lists the flags of a command.")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "arae --help lists the commands"
        print(f"error: unknown command {name!r}; {hint}", file=sys.stderr)
        return 2
    sys.argv = [f"arae {name}", *rest]  # printed in usage lines, and in commands that resume a run
    return int(importlib.import_module(f"pipelines.{name}").main())


def _description(command: str) -> str:
    """Return the first line of the script's docstring, without importing the script."""
    source = Path(__file__).parents[1].joinpath(f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
