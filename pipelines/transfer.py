"""Say sentences again with another attribute: one line out for each line in.

    python pipelines/transfer.py --model models:/arae-grammar-sentiment@champion --to positive < sentences.txt
    python pipelines/transfer.py --model ... --from-like sad.txt --to-like happy.txt < sentences.txt

The first asks a model that was trained with the attribute (paper, Algorithm 2). The second asks any model of sentences:
to each code it adds the mean code of one file's sentences minus the mean code of the other's.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the repository, not pipelines/, is first on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.cli.command_line import Option, emit_json, parse_options, run
from pipelines.cli.model_commands import (
    CONTRAST,
    INPUT,
    MODEL,
    OUTPUT,
    SEED,
    TEMPERATURE,
    check_attribute,
    check_contrast,
    check_draws,
    check_output,
    check_sentences,
    filled_lines,
    in_their_places,
    lines_and,
    paired,
    read_lines,
    show,
)
from pipelines.tracking.registry import load_model

OPTIONS = (
    MODEL,
    Option("to", str, "", "Class that the sentences get."),
    Option("from_like", Path, None, "Without --to: file of sentences that are as the input is, one a line."),
    Option("to_like", Path, None, "Without --to: file of sentences that are as the output shall be."),
    Option("strength", float, None, "Without --to: multiplies the difference of the mean codes (default: 1)."),
    CONTRAST,
    INPUT,
    Option("pairs", bool, False, "Put each original and a tab before what became of it."),
    SEED,
    TEMPERATURE,
    OUTPUT,
)


def transfer(arguments: Sequence[str] | None) -> None:
    options = parse_options(arguments, "Say sentences again with another attribute.", OPTIONS)
    check_draws(options.seed, options.temperature)
    check_contrast(options.contrast)
    strength = 1.0 if options.strength is None else options.strength
    if not math.isfinite(strength):
        raise ValueError(f"--strength must be a finite number, got {strength}")
    by_files = options.from_like is not None or options.to_like is not None
    if bool(options.to) == by_files or (by_files and None in (options.from_like, options.to_like)):
        raise ValueError("name either --to CLASS, or both --from-like FILE and --to-like FILE")
    idle, why = ("contrast", "without --to") if by_files else ("strength", "with --to")
    if getattr(options, idle) is not None:
        print(f"warning: --{idle} has no effect {why}", file=sys.stderr)
    sides = [read_lines(path, flag) for flag, path in _files(options.from_like, options.to_like)]
    check_output(options.output)
    lines, (model, checkpoint) = lines_and(lambda: load_model(options.model, options.tracking_uri), options.input)
    if model.kind != "text":
        raise ValueError(f"--model {options.model}: transfer is of sentences, this model is one of images")
    if options.to:
        check_attribute("--to", model, options.to)
    filled = filled_lines(lines)
    sentences = [lines[i] for i in filled]
    _, counts = check_sentences(model, sentences)
    draw = {"temperature": options.temperature, "seed": options.seed}
    if options.to:
        written = model.transfer(sentences, options.to, contrast=options.contrast, **draw)
    else:
        like = [[line for line in side if line.strip()] for side in sides]
        written = model.shift(sentences, strength * model.offset(*like), **draw)
    written = in_their_places(written, filled, len(lines))
    output = show(paired(lines, written) if options.pairs else written, options.output, picture="")
    if options.json:
        changed = sum(line.split() != new.split() for line, new in zip(lines, written, strict=True))
        figures = {"sentences": len(filled), "changed": changed / len(filled), **counts}
        results = {"model": options.model, "checkpoint": checkpoint, "output": output, "metrics": figures}
        emit_json(results | ({"sentences": written} if output is None else {}))


def _files(from_like: Path | None, to_like: Path | None) -> list[tuple[str, Path]]:
    pairs = (("--from-like", from_like), ("--to-like", to_like))
    return [(flag, path) for flag, path in pairs if path is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    return run(transfer, arguments)


if __name__ == "__main__":
    sys.exit(main())
