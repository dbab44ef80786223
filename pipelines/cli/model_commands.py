"""What the commands with a trained model share: their options, checking sentences, writing what came out."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from arae_core.data.atomic import replace_file_atomically
from arae_core.settings import MOST_CONTRAST
from arae_core.settings.checks import between
from pipelines.cli.flags import Option
from pipelines.reporting.drawing import save_images

if TYPE_CHECKING:
    from arae_core.classification import SentenceClassifier
    from arae_core.model import Model

Loaded = TypeVar("Loaded")
MODEL = Option("model", str, None, "models:/NAME/VERSION, models:/NAME@ALIAS or a checkpoint's folder.", required=True)
INPUT = Option("input", Path, None, "UTF-8 file, one sentence a line; stdin where left out.")
SEED = Option("seed", int, 0, "Of every random draw.")
TEMPERATURE = Option("temperature", float, 0.0, "0: the most probable word or pixel each time; 1: drawn as learnt.")
CONTRAST = Option(
    "contrast", float, None, "How much words that other classes make probable are avoided (default: the model's own)."
)
OUTPUT = Option("output", Path, None, "File to write (default: stdout).")


def output_option(picture: str) -> Option:
    """--output of a command that writes sentences, or of a model of images a picture."""
    return replace(OUTPUT, help=f"File to write, of a model of images a PNG picture (default: stdout; {picture} here).")


WRITTEN_CUT = "they are read whole, but come back with at most {longest}"


def check_output(output: Path | None) -> None:
    """Raise ValueError where there is to be a file and it could not be written."""
    if output is not None and not os.access(output.parent, os.W_OK):
        state = "cannot be written to" if output.parent.is_dir() else "does not exist"
        raise ValueError(f"--output {output}: the folder {output.parent} {state}")
    if output is not None and output.is_dir():
        raise ValueError(f"--output {output}: this is a folder; name a file")


def check_draws(seed: int, temperature: float = 0.0) -> None:
    """Raise ValueError for a seed or a temperature that cannot be drawn with."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed must be in [0, 2**32), got {seed}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"--temperature must be >= 0, got {temperature}")


def check_memory(flag: str, count: int, model: "Model") -> None:
    """Raise ValueError where so many examples are sure not to fit: noise and codes of all are there at once."""
    each = (model.state.prior.noise_size + model.settings.code.size) * model.state.dtype.itemsize
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // each
    if count > most:
        raise ValueError(f"{flag} must be <= {most}, got {count}: their codes would not fit into this machine's memory")


def check_contrast(contrast: float | None) -> None:
    """Raise ValueError for a contrast that cannot be decoded with."""
    if contrast is not None:
        between("--contrast", contrast, 0, MOST_CONTRAST)


def check_attribute(flag: str, model: "Model", attribute: str) -> None:
    """Raise ValueError unless the model knows that class."""
    if not model.classes:
        raise ValueError(
            f"{flag} {attribute}: this model has no attribute; train one with --data.label COLUMN (--config yelp or "
            "--config grammar-sentiment does), or use transfer.py's --from-like and --to-like"
        )
    if attribute not in model.classes:
        raise ValueError(f"{flag} must be one of {', '.join(model.classes)}, got {attribute!r}")


def read_lines(path: Path | None, flag: str = "--input") -> list[str]:
    """The lines of the file or of stdin. Raises ValueError where there are none or they are not UTF-8."""
    name = "stdin" if path is None else f"{flag} {path}"
    if path is None and sys.stdin is None:  # closed by whoever called
        raise ValueError(f"{name}: is closed; name a file with {flag}")
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


def lines_and(load: Callable[[], Loaded], path: Path | None) -> tuple[list[str], Loaded]:
    """The lines, and what load() returns: stdin is read after it, for nobody shall type for a model that is not there,
    a file before, for a model takes longer to load. Raises as both do."""
    lines = None if path is None else read_lines(path)
    loaded = load()
    return (read_lines(None) if lines is None else lines), loaded


def filled_lines(lines: Sequence[str]) -> list[int]:
    """Numbers of the lines that hold something; of the others it is said on stderr that they stay as they are."""
    filled = [i for i, line in enumerate(lines) if line.strip()]
    if len(filled) < len(lines):
        print(f"warning: {len(lines) - len(filled)} of {len(lines)} lines are empty and stay so", file=sys.stderr)
    return filled


def paired(lines: Sequence[str], written: Sequence[str]) -> list[str]:
    """Each line, a tab, and what became of it. Tabs within a line are spaces: there are two columns."""
    return [f"{line.replace(chr(9), ' ')}\t{new}" for line, new in zip(lines, written, strict=True)]


def in_their_places(sentences: Sequence[str], numbers: Sequence[int], count: int) -> list[str]:
    """`count` lines, those of `numbers` the sentences, the others empty."""
    lines = [""] * count
    for i, sentence in zip(numbers, sentences, strict=True):
        lines[i] = sentence
    return lines


def check_sentences(
    model: "Model | SentenceClassifier", sentences: Sequence[str], too_long: str = WRITTEN_CUT
) -> tuple[list[list[int]], dict[str, int]]:
    """Ids of the sentences, and what the model will not see of them as it stands: counted, and said on stderr.

    too_long: what becomes of sentences of more tokens than the {longest} that the model was trained on.
    """
    assert model.vocabulary is not None
    rows, unknown = model.vocabulary.encode(sentences), model.vocabulary.unknown
    longest = model.state.settings.longest
    counts = {
        "tokens": sum(map(len, rows)),
        "unknown_tokens": sum(row.count(unknown) for row in rows),
        "too_long": sum(len(row) > longest for row in rows),
    }
    if counts["unknown_tokens"]:
        print(
            f"warning: {counts['unknown_tokens']} of {counts['tokens']} tokens are not in the model's vocabulary; "
            "it reads the unknown mark in their place",
            file=sys.stderr,
        )
    if counts["too_long"]:
        print(
            f"warning: {counts['too_long']} of {len(rows)} sentences have more than {longest} tokens, the longest that "
            f"the model was trained on; {too_long.format(longest=longest)}",
            file=sys.stderr,
        )
    return rows, counts


def show(examples: Any, output: Path | None, *, picture: str, columns: int | None = None) -> Path | None:
    """Print sentences, or write them to `output`; write images as one picture there, or to `picture`. The path if any.

    columns: of the picture, as near a square as can be by default.
    """
    images = not isinstance(examples, list)
    if images:
        output = output or Path(picture)
        _write(output, lambda path: save_images(path, examples, columns))
    elif output is None:
        print("\n".join(examples), flush=True)
        return None
    else:
        text = "".join(line + "\n" for line in examples)
        _write(output, lambda path: path.write_text(text, encoding="utf-8"))
    print(f"{len(examples)} {'images' if images else 'lines'} in {output}", file=sys.stderr)
    return output


def _write(output: Path, write: Callable[[Path], Any]) -> None:
    """Write `output` whole or not at all; a device or a pipe as it is, and what a link leads to."""
    output = output.resolve()
    try:
        if output.exists() and not output.is_file():
            write(output)
            return
        with replace_file_atomically(output) as partial:
            write(partial)
    except OSError as error:
        raise ValueError(f"--output {output}: cannot be written ({error.strerror or error})") from error
