"""Sample from a trained model: one sentence a line, or a picture of images.

python pipelines/generate.py --model models:/arae-grammar@champion --count 10 --seed 0 [--output samples.txt]
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.cli.model_commands import (
    MODEL,
    SEED,
    TEMPERATURE,
    check_attribute,
    check_draws,
    check_memory,
    check_output,
    output_option,
    show,
)
from pipelines.tracking.registry import load_model

OPTIONS = (
    MODEL,
    Option("count", int, 10, "Examples to draw."),
    Option("attribute", str, "", "Class of all examples, of a model with classes; else each class in turn."),
    SEED,
    replace(TEMPERATURE, default=None, help=f"{TEMPERATURE.help[:-1]} (default: as the model was chosen by)."),
    output_option("generated.png"),
)


def generate(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Sample from a trained model.", OPTIONS)
    if options.count < 1:
        raise ValueError(f"--count must be >= 1, got {options.count}")
    check_draws(options.seed, options.temperature or 0.0)
    check_output(options.output)
    model, checkpoint = load_model(options.model, options.tracking_uri)
    check_memory("--count", options.count, model)
    attribute = options.attribute or None
    if attribute is not None:
        check_attribute("--attribute", model, attribute)
    examples = model.generate(options.count, seed=options.seed, temperature=options.temperature, attribute=attribute)
    output = show(examples, options.output, picture="generated.png")
    if options.json:
        results = {"model": options.model, "checkpoint": checkpoint, "count": len(examples), "output": output}
        emit_json(results | ({"sentences": examples} if output is None else {}))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(generate, arguments)


if __name__ == "__main__":
    sys.exit(main())
