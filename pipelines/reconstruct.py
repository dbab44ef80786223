"""Send sentences through the code and back: one line out for each line in.

    python pipelines/reconstruct.py --model ... --input sentences.txt [--pairs] [--output out.txt]

Without --input, lines are read from stdin. For a model of images a line is one image: its pixels, 0 or 1, row by row.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.experiment.command_line import Option, emit_json, parse_options, run
from pipelines.experiment.model_commands import (
    MODEL,
    OUTPUT,
    SEED,
    TEMPERATURE,
    check_draws,
    check_sentences,
    load_model,
    show,
)

if TYPE_CHECKING:
    from arae_core.sampling import Model

OPTIONS = (
    MODEL,
    Option("input", Path, None, "UTF-8 file, one sentence (or image) a line; stdin where left out."),
    Option("pairs", bool, False, "Put each original before its reconstruction (sentences: with a tab between)."),
    SEED,
    TEMPERATURE,
    OUTPUT,
)


def reconstruct(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Reconstruct sentences or images through a trained model's code.", OPTIONS)
    check_draws(options.seed, options.temperature)
    lines = _read_lines(options.input)
    model, checkpoint = load_model(options.model, options.tracking_uri, options.output)
    draw = {"temperature": options.temperature, "seed": options.seed}
    examples: Any  # list[str] or uint8[N, H, W]
    if model.kind == "text":
        examples, figures = _sentences(model, lines, draw)
        pairs = [f"{line}\t{back}" for line, back in zip(lines, examples, strict=True)]
        output = show(pairs if options.pairs else examples, options.output, picture="")
    else:
        originals = _parsed_images(model, lines)
        examples = model.reconstruct(originals, **draw)
        figures = {"pixel_accuracy": float((originals == examples).mean()), "images": len(originals)}
        columns = min(16, 2 * len(lines) if options.pairs else len(lines))
        shown = _side_by_side(originals, examples) if options.pairs else examples
        output = show(shown, options.output, picture="reconstruction.png", columns=columns)
    if options.json:
        results = {"model": options.model, "checkpoint": checkpoint, "output": output, "metrics": figures}
        emit_json(results | ({"sentences": examples} if output is None else {}))


def _read_lines(path: Path | None) -> list[str]:
    """The lines of the file or of stdin. Raises ValueError where there are none or they are not UTF-8."""
    name = "stdin" if path is None else f"--input {path}"
    if path is None and sys.stdin.isatty():
        print("one sentence a line, Ctrl-D ends:", file=sys.stderr)
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{name}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}: line {line} is not UTF-8 text; convert the file, for example with iconv") from error
    if not text.strip():
        raise ValueError(f"{name}: is empty; it needs one sentence or image a line")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _sentences(model: "Model", lines: list[str], draw: dict[str, Any]) -> tuple[list[str], dict[str, float]]:
    """The reconstruction of each line (an empty one of an empty one), and how much came back.

    token_accuracy: share of the lines' tokens that stand in their places again; exact: share of the lines with all.
    """
    filled = [i for i, line in enumerate(lines) if line.strip()]
    if len(filled) < len(lines):
        print(f"warning: {len(lines) - len(filled)} of {len(lines)} lines are empty and stay so", file=sys.stderr)
    rows, counts = check_sentences(model, [lines[i] for i in filled])
    back = list(model.reconstruct([lines[i] for i in filled], **draw))
    pairs = list(zip(rows, model.encode_text(back), strict=True))
    right = sum(a == b for old, new in pairs for a, b in zip(old, new, strict=False))
    figures = {"token_accuracy": right / counts["tokens"], "exact": sum(a == b for a, b in pairs) / len(pairs)}
    examples = [""] * len(lines)
    for i, sentence in zip(filled, back, strict=True):
        examples[i] = sentence
    return examples, figures | {"sentences": len(filled), "empty_lines": len(lines) - len(filled)} | counts


def _parsed_images(model: "Model", lines: list[str]) -> Any:
    """uint8[N, H, W] of 0 and 1. Raises ValueError for a line that is no image of the model's size."""
    import numpy as np

    assert model.image_size is not None
    height, width = model.image_size
    images = []
    for number, line in enumerate(lines, start=1):
        pixels = "".join(line.split())
        if len(pixels) != height * width or set(pixels) - {"0", "1"}:
            raise ValueError(
                f"line {number} is no image of this model: it must be {height} x {width} pixels, each 0 or 1; "
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
