"""Run the paper's experiments on trained models of sentences: a table and a figure for each.

    python pipelines/evaluate.py --model models:/arae-grammar@champion --on robustness,latent
    python pipelines/evaluate.py --model ARAE,AE --on perplexity --samples 100000 --split test

perplexity: forward and reverse, by an LSTM language model. latent: norms, variances and neighbours of codes.
robustness: reconstruction after word swaps. transfer: accuracy and BLEU. Several models share each table.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # run as a script: put the repository, not pipelines/, first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli import evaluation
from pipelines.cli.command_line import Option, parse_options, run
from pipelines.cli.model_options import CONTRAST, MODEL, SEED

OPTIONS = (
    replace(MODEL, help="Models or checkpoint folders, as for generate.py, separated by commas."),
    Option("on", str, "", f"Comma-separated experiments: {', '.join(evaluation.TASKS)} (default: all that apply)."),
    Option("split", str, "validation", "Split to evaluate on; use test for final results only.", evaluation.SPLITS),
    Option("samples", int, 100_000, "Sentences that each model generates for perplexity; fewer are faster."),
    Option("reconstructed", bool, False, "Also report the perplexity of as many reconstructed training sentences."),
    Option("references", Path, None, "File of human rewritings for transfer (columns source, label, reference)."),
    Option("outputs", Path, None, "File of other systems' outputs for these (columns system, source, output)."),
    CONTRAST,
    Option("run_name", str, "", "Folder of tables and figures; resumes if it exists (default: the current time)."),
    SEED,
)


def evaluate(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Run the paper's experiments on trained models of sentences.", OPTIONS)
    evaluation.evaluate(options, sys.argv[1:] if arguments is None else arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(evaluate, arguments)


if __name__ == "__main__":
    sys.exit(main())
