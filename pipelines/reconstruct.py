"""Send sentences through the code and back: one line out for each line in.

    python pipelines/reconstruct.py --model ... --input sentences.txt [--pairs] [--output out.txt]

Without --input, lines are read from stdin. For a model of images a line is one image: its pixels, 0 or 1, row by row.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.cli.model_commands import (
    INPUT,
    MODEL,
    SEED,
    TEMPERATURE,
    check_draws,
    check_output,
    check_sentences,
    filled_lines,
    in_their_places,
    lines_and,
    output_option,
    paired,
    show,
)
from pipelines.tracking.registry import load_model

if TYPE_CHECKING:
    from arae_core.model import Model

OPTIONS = (
    MODEL,
    replace(INPUT, help="UTF-8 file, one sentence or image a line; stdin where left out."),
    Option("pairs", bool, False, "Put each original before its reconstruction (sentences: with a tab between)."),
    SEED,
    TEMPERATURE,
    output_option("reconstruction.png"),
)


def reconstruct(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Reconstruct sentences or images through a trained model's code.", OPTIONS)
    check_draws(options.seed, options.temperature)
    check_output(options.output)
    lines, (model, checkpoint) = lines_and(lambda: load_model(options.model, options.tracking_uri), options.input)
    draw = {"temperature": options.temperature, "seed": options.seed}
    examples: Any  # list[str] or uint8[N, H, W]
    if model.kind == "text":
        examples, figures = _sentences(model, lines, draw)
        pairs = paired(lines, examples)
        output = show(pairs if options.pairs else examples, options.output, picture="")
    else:
        originals = _parsed_images(model, lines, "stdin" if options.input is None else f"--input {options.input}")
        examples = model.reconstruct(originals, **draw)
        figures = {"pixel_accuracy": float((originals == examples).mean()), "images": len(originals)}
        columns = min(16, 2 * len(lines) if options.pairs else len(lines))
        shown = _side_by_side(originals, examples) if options.pairs else examples
        output = show(shown, options.output, picture="reconstruction.png", columns=columns)
    if options.json:
        results = {"model": options.model, "checkpoint": checkpoint, "output": output, "metrics": figures}
        emit_json(results | ({"sentences": examples} if output is None else {}))


def _sentences(model: "Model", lines: list[str], draw: dict[str, Any]) -> tuple[list[str], dict[str, float]]:
    """The reconstruction of each line (an empty one of an empty one), and how much came back.

    token_accuracy: share of the lines' tokens that stand in their places again; exact: share of the lines with all.
    """
    filled = filled_lines(lines)
    rows, counts = check_sentences(model, [lines[i] for i in filled])
    back = list(model.reconstruct([lines[i] for i in filled], **draw))
    pairs = list(zip(rows, model.encode_text(back), strict=True))
    right = sum(a == b for old, new in pairs for a, b in zip(old, new, strict=False))
    figures = {"token_accuracy": right / counts["tokens"], "exact": sum(a == b for a, b in pairs) / len(pairs)}
    return in_their_places(back, filled, len(lines)), figures | {
        "sentences": len(filled),
        "empty_lines": len(lines) - len(filled),
    } | counts


def _parsed_images(model: "Model", lines: list[str], name: str) -> Any:
    """uint8[N, H, W] of 0 and 1. Raises ValueError for a line that is no image of the model's size."""
    import numpy as np

    assert model.image_size is not None
    height, width = model.image_size
    images = []
    for number, line in enumerate(lines, start=1):
        pixels = "".join(line.split())
        if len(pixels) != height * width or set(pixels) - {"0", "1"}:
            raise ValueError(
                f"{name}: line {number} is no image of this model: it must be {height} x {width} pixels, each 0 or 1; "
                f"got {len(pixels)} characters"
            )
        images.append(np.array(list(pixels), dtype=np.uint8).reshape(height, width))
    return np.stack(images)


def _side_by_side(originals: Any, reconstructions: Any) -> Any:
    """uint8[2 * N, H, W]: each image, then its reconstruction."""
    import numpy as np

    return np.stack([originals, reconstructions], axis=1).reshape(-1, *originals.shape[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    return run(reconstruct, arguments)


if __name__ == "__main__":
    sys.exit(main())
