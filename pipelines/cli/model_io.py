"""Input and output of the commands that use a trained model: lines in, sentences or pictures out."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from arae_core.data.atomic import replace_file_atomically
from pipelines.corpora.text_files import decoded, split_lines
from pipelines.evaluation.drawing import save_images

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arae_core.classification import SentenceClassifier
    from arae_core.model import Model

Loaded = TypeVar("Loaded")
TRUNCATED_OUTPUT = "they are read in full, but the output has at most {longest} tokens"
"""Effect of an input that is longer than the training sentences, see `encode_with_warnings`."""


def input_name(path: Path | None, flag: str = "--input") -> str:
    """Return how error messages refer to an input: stdin, or the flag with its file."""
    return "stdin" if path is None else f"{flag} {path}"


def read_lines(path: Path | None, flag: str = "--input") -> list[str]:
    """Return the lines of the file, or of stdin if `path` is None.

    Lines are read as those of training data, see text_files.py. Raise ValueError if the input cannot be read, is empty,
    or is not UTF-8.
    """
    name = input_name(path, flag)
    if path is None and sys.stdin is None:  # the calling process closed it
        raise ValueError(f"{name} is closed; name a file with {flag}")
    if path is None and sys.stdin.isatty():
        print("Enter one sentence per line; end with Ctrl-D:", file=sys.stderr)
    try:
        content = sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror or error})") from error
    text = decoded(content, name, path)
    if not text.strip():
        raise ValueError(f"{name} is empty; it must have one sentence or image per line")
    return split_lines(text)


def read_lines_and_load(load: Callable[[], Loaded], path: Path | None) -> tuple[list[str], Loaded]:
    """Return the input lines and the result of `load()`. Raise as both do.

    A file is read first, because it is faster than loading the model. Stdin is read last, so that a missing model
    fails before anybody types.
    """
    lines = None if path is None else read_lines(path)
    loaded = load()
    return (read_lines(None) if lines is None else lines), loaded


def rows_with_tokens(lines: Sequence[str], model: "Model") -> list[int]:
    """Return the indices of the lines that have tokens."""
    return [i for i, tokens in enumerate(model.encode_text(lines)) if tokens]


def nonempty_rows(lines: Sequence[str], model: "Model") -> list[int]:
    """Return the indices of the lines that have tokens, and warn about the others."""
    rows = rows_with_tokens(lines, model)
    if count := len(lines) - len(rows):
        blank = sum(not line.strip() for line in lines) == count
        state = "are empty" if blank else "are empty or have no tokens,"
        print(f"warning: {count} of {len(lines)} lines {state} and stay empty", file=sys.stderr)
    return rows


def restore_empty_lines(sentences: Sequence[str], rows: Sequence[int], count: int) -> list[str]:
    """Return `count` lines: the sentences at the indices `rows`, empty lines elsewhere."""
    lines = [""] * count
    for i, sentence in zip(rows, sentences, strict=True):
        lines[i] = sentence
    return lines


def with_originals(lines: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Return "original TAB output" for each line. Tabs of the original become spaces, so there are two columns."""
    return [f"{line.replace(chr(9), ' ')}\t{output}" for line, output in zip(lines, outputs, strict=True)]


def encode_with_warnings(
    model: "Model | SentenceClassifier", sentences: Sequence[str], too_long: str = TRUNCATED_OUTPUT
) -> tuple[list[list[int]], dict[str, int]]:
    """Return the token ids of the sentences, and the counts "tokens", "unknown_tokens" and "too_long".

    Warns about unknown tokens, and about sentences longer than the model was trained on. `too_long` says what happens
    to the latter; {longest} in it stands for the limit in tokens.
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
            f"warning: {counts['unknown_tokens']} of {counts['tokens']} tokens are not in the model's vocabulary and "
            "are read as the unknown token",
            file=sys.stderr,
        )
    if counts["too_long"]:
        print(
            f"warning: {counts['too_long']} of {len(rows)} sentences have more than {longest} tokens, the maximum "
            f"in training; {too_long.format(longest=longest)}",
            file=sys.stderr,
        )
    return rows, counts


def parse_images(lines: Sequence[str], size: tuple[int, int], name: str) -> "NDArray[np.uint8]":
    """Return uint8[N, H, W] of 0 and 1 from lines of H * W digits; white space is ignored.

    `name` names the input in errors. Raise ValueError for a line that is not an image of this size.
    """
    import numpy as np

    height, width = size
    images = []
    for number, line in enumerate(lines, start=1):
        pixels = "".join(line.split())
        if len(pixels) != height * width or set(pixels) - {"0", "1"}:
            raise ValueError(
                f"{name}: line {number} must be {height} x {width} pixels, each 0 or 1, got {len(pixels)} characters"
            )
        images.append(np.array(list(pixels), dtype=np.uint8).reshape(height, width))
    return np.stack(images)


def write_examples(examples: Any, output: Path | None, *, picture: str, columns: int | None = None) -> Path | None:
    """Write sentences to `output` or stdout, or images to `output` or `picture`; return the path of the file, if any.

    examples: list of sentences, or images uint8[N, H, W]. columns: width of the picture in images (default: square).
    """
    images = not isinstance(examples, list)
    if images:
        output = output or Path(picture)
        _write_atomically(output, lambda path: save_images(path, examples, columns))
    elif output is None:
        print("\n".join(examples), flush=True)
        return None
    else:
        text = "".join(line + "\n" for line in examples)
        _write_atomically(output, lambda path: path.write_text(text, encoding="utf-8"))
    print(f"wrote {len(examples)} {'images' if images else 'lines'} to {output}", file=sys.stderr)
    return output


def _write_atomically(output: Path, write: Callable[[Path], Any]) -> None:
    """Replace `output` with what `write(path)` writes. Follows links; writes to devices and pipes directly."""
    output = output.resolve()
    try:
        if output.exists() and not output.is_file():
            write(output)
            return
        with replace_file_atomically(output) as partial:
            write(partial)
    except OSError as error:
        raise ValueError(f"--output {output}: cannot be written ({error.strerror or error})") from error
