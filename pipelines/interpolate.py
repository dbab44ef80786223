"""Walk through the code space: between two sentences, or between two random points.

python pipelines/interpolate.py --model ... --between "a man is sleeping ." "two dogs run outside ." --steps 7
python pipelines/interpolate.py --model ... --seed 3
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.cli.model_commands import (
    MODEL,
    SEED,
    check_draws,
    check_memory,
    check_output,
    check_sentences,
    output_option,
    show,
)
from pipelines.tracking.registry import load_model

if TYPE_CHECKING:
    from arae_core.model import Model

BETWEEN = "Two sentences, or for a model of images two seeds of samples; left out: two random points of the noise."
OPTIONS = (
    MODEL,
    Option("between", str, None, BETWEEN, values=2),
    Option("steps", int, 7, "Points on the way, both ends included."),
    SEED,
    output_option("interpolation.png"),
)


def interpolate(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Interpolate in the code space of a trained model.", OPTIONS)
    if options.steps < 2:
        raise ValueError(f"--steps must be >= 2, got {options.steps}")
    check_draws(options.seed)
    check_output(options.output)
    model, checkpoint = load_model(options.model, options.tracking_uri)
    check_memory("--steps", options.steps, model)
    if options.between is None:
        examples = model.interpolate_noise(options.steps, seed=options.seed)
    else:
        examples = model.interpolate(*_ends(model, options.between), options.steps)
    output = show(examples, options.output, picture="interpolation.png", columns=len(examples))
    if options.json:
        results = {"model": options.model, "checkpoint": checkpoint, "steps": options.steps, "output": output}
        emit_json(results | ({"sentences": examples} if output is None else {}))


def _ends(model: "Model", between: list[str]) -> tuple[Any, Any]:
    """The two examples to go between: sentences as they are, images drawn from the seeds that were named."""
    if model.kind == "text":
        if not all(sentence.strip() for sentence in between):
            raise ValueError("--between needs two sentences, got an empty one")
        check_sentences(model, between)
        return between[0], between[1]
    if not all(text.isdecimal() and int(text) < 2**32 for text in between):
        raise ValueError(
            f"--between takes two seeds in [0, 2**32) here, because {model.settings.kind} models read no sentences; "
            f"got {between[0]!r} and {between[1]!r}"
        )
    first, second = (model.generate(1, seed=int(text))[0] for text in between)
    return first, second


def main(arguments: Sequence[str] | None = None) -> int:
    return run(interpolate, arguments)


if __name__ == "__main__":
    sys.exit(main())
