"""Bodies of the commands that use one trained model: generate, interpolate, reconstruct, transfer and predict.

Each takes the parsed options of its script, checks them before it loads the model, and raises ValueError for mistakes
of the user.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.command_line import emit_json
from pipelines.cli.model_io import (
    encode_with_warnings,
    input_name,
    nonempty_rows,
    parse_images,
    read_lines,
    read_lines_and_load,
    restore_empty_lines,
    rows_with_tokens,
    with_originals,
    write_examples,
)
from pipelines.cli.model_options import check_attribute, check_contrast, check_memory, check_output, check_sampling
from pipelines.tracking.registry import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arae_core.model import Model

MAX_QUOTED = 60
"""Characters of a malformed line that its error quotes."""


def generate(options: argparse.Namespace) -> None:
    """Write samples of the model."""
    if options.count < 1:
        raise ValueError(f"--count must be >= 1, got {options.count}")
    check_sampling(options.seed, options.temperature or 0.0)
    check_output(options.output)
    model, checkpoint = load_model(options.model, options.tracking_uri)
    check_memory("--count", options.count, model)
    attribute = options.attribute or None
    if attribute is not None:
        check_attribute("--attribute", model, attribute)
    examples = model.generate(options.count, seed=options.seed, temperature=options.temperature, attribute=attribute)
    output = write_examples(examples, options.output, picture="generated.png")
    _emit_json(options, checkpoint, examples, output, count=len(examples))


def interpolate(options: argparse.Namespace) -> None:
    """Write the points of a path between two examples, or between two noise vectors."""
    if options.steps < 2:
        raise ValueError(f"--steps must be >= 2, got {options.steps}")
    check_sampling(options.seed)
    check_output(options.output)
    model, checkpoint = load_model(options.model, options.tracking_uri)
    check_memory("--steps", options.steps, model)
    if options.between is None:
        examples = model.interpolate_noise(options.steps, seed=options.seed)
    else:
        examples = model.interpolate(*_endpoints(model, options.between), options.steps)
    output = write_examples(examples, options.output, picture="interpolation.png", columns=len(examples))
    _emit_json(options, checkpoint, examples, output, steps=options.steps)


def _endpoints(model: "Model", between: "Sequence[str]") -> tuple[Any, Any]:
    """Return the examples to interpolate between: the two sentences, or images sampled with the two seeds."""
    if model.kind == "text":
        if not all(model.encode_text(between)):
            raise ValueError("--between must be two sentences, got one that is empty or has no tokens")
        encode_with_warnings(model, between)
        return between[0], between[1]
    if not all(text.isdecimal() and int(text) < 2**32 for text in between):
        raise ValueError(
            f"--between must be two seeds in [0, 2**32) for a model of kind {model.settings.kind}, got "
            f"{between[0]!r} and {between[1]!r}"
        )
    first, second = (model.generate(1, seed=int(text))[0] for text in between)
    return first, second


def reconstruct(options: argparse.Namespace) -> None:
    """Encode and decode each line of the input."""
    check_sampling(options.seed, options.temperature)
    check_output(options.output)
    lines, (model, checkpoint) = read_lines_and_load(
        lambda: load_model(options.model, options.tracking_uri), options.input
    )
    body = _reconstruct_sentences if model.kind == "text" else _reconstruct_images
    examples, output, metrics = body(model, lines, options)
    _emit_json(options, checkpoint, examples, output, metrics=metrics)


def _reconstruct_sentences(
    model: "Model", lines: list[str], options: argparse.Namespace
) -> tuple[list[str], Path | None, dict[str, float]]:
    """Return (a reconstruction of each line, the output file, metrics).

    token_accuracy: share of the input's tokens that the output has at the same position. exact: share of sentences
    that are reproduced exactly. Empty lines stay empty and do not count.
    """
    rows = nonempty_rows(lines, model)
    sentences = [lines[i] for i in rows]
    originals, counts = encode_with_warnings(model, sentences)
    decoded = list(model.reconstruct(sentences, temperature=options.temperature, seed=options.seed))
    pairs = list(zip(originals, model.encode_text(decoded), strict=True))
    correct = sum(a == b for old, new in pairs for a, b in zip(old, new, strict=False))
    metrics = {
        "token_accuracy": correct / max(1, counts["tokens"]),
        "exact": sum(a == b for a, b in pairs) / max(1, len(pairs)),
        "sentences": len(rows),
        "empty_lines": len(lines) - len(rows),
        **counts,
    }
    examples = restore_empty_lines(decoded, rows, len(lines))
    shown = with_originals(lines, examples) if options.pairs else examples
    return examples, write_examples(shown, options.output, picture=""), metrics


def _reconstruct_images(
    model: "Model", lines: list[str], options: argparse.Namespace
) -> tuple[Any, Path | None, dict[str, float]]:
    """Return (reconstructions uint8[N, H, W], the picture's file, metrics)."""
    import numpy as np

    assert model.image_size is not None
    originals = parse_images(lines, model.image_size, input_name(options.input))
    examples = np.asarray(model.reconstruct(originals, temperature=options.temperature, seed=options.seed))
    metrics = {"pixel_accuracy": float((originals == examples).mean()), "images": len(originals)}
    shown = examples
    if options.pairs:  # each image, then its reconstruction
        shown = np.stack([originals, examples], axis=1).reshape(-1, *originals.shape[1:])
    output = write_examples(shown, options.output, picture="reconstruction.png", columns=min(16, len(shown)))
    return examples, output, metrics


def transfer(options: argparse.Namespace) -> None:
    """Rewrite each line of the input with another attribute."""
    check_sampling(options.seed, options.temperature)
    check_contrast(options.contrast)
    strength = 1.0 if options.strength is None else options.strength
    if not math.isfinite(strength):
        raise ValueError(f"--strength must be a finite number, got {strength}")
    sides = _transfer_sides(options)
    check_output(options.output)
    lines, (model, checkpoint) = read_lines_and_load(
        lambda: load_model(options.model, options.tracking_uri), options.input
    )
    if model.kind != "text":
        raise ValueError(f"--model {options.model} is a model of images; transfer needs a model of sentences")
    if options.to:
        check_attribute("--to", model, options.to)
    rows = nonempty_rows(lines, model)
    sentences = [lines[i] for i in rows]
    _, counts = encode_with_warnings(model, sentences)
    sampling = {"temperature": options.temperature, "seed": options.seed}
    if options.to:
        outputs = model.transfer(sentences, options.to, contrast=options.contrast, **sampling)
    else:
        like = ([side[i] for i in rows_with_tokens(side, model)] for side in sides)
        outputs = model.shift(sentences, strength * model.offset(*like), **sampling)
    examples = restore_empty_lines(outputs, rows, len(lines))
    shown = with_originals(lines, examples) if options.pairs else examples
    output = write_examples(shown, options.output, picture="")
    changed = sum(line.split() != new.split() for line, new in zip(lines, examples, strict=True))
    metrics = {"sentences": len(rows), "changed": changed / max(1, len(rows)), **counts}
    _emit_json(options, checkpoint, examples, output, metrics=metrics)


def _transfer_sides(options: argparse.Namespace) -> list[list[str]]:
    """Return the sentences of --from-like and --to-like, or [] with --to. Warns about a flag without effect."""
    files = {"--from-like": options.from_like, "--to-like": options.to_like}
    named = [path for path in files.values() if path is not None]
    if bool(options.to) == bool(named) or len(named) == 1:
        raise ValueError("give either --to CLASS, or both --from-like FILE and --to-like FILE")
    unused, why = ("contrast", "without --to") if named else ("strength", "with --to")
    if getattr(options, unused) is not None:
        print(f"warning: --{unused} has no effect {why}", file=sys.stderr)
    return [read_lines(path, flag) for flag, path in files.items() if path is not None]


def predict(options: argparse.Namespace) -> None:
    """Write the class of each line of the input."""
    check_output(options.output)
    from arae_core.classification import SentenceClassifier

    lines, classifier = read_lines_and_load(lambda: SentenceClassifier.load(options.model), options.input)
    examples = _split_examples(lines, classifier.head.sentences, input_name(options.input))
    sentences = [text for example in examples for text in example]
    encode_with_warnings(classifier, sentences, "words after the first {longest} are ignored")
    classes = classifier.classify(examples)
    pairs = [f"{line}\t{label}" for line, label in zip(lines, classes, strict=True)]
    output = write_examples(pairs if options.pairs else classes, options.output, picture="")
    if options.json:
        emit_json({"model": str(options.model), "classes": classes, "output": output})


def _split_examples(lines: "Sequence[str]", count: int, name: str) -> list[list[str]]:
    """Split each line at its tabs into `count` sentences. Raise ValueError for a line with another number of them."""
    examples = [line.split("\t") for line in lines]
    for i, example in enumerate(examples):
        if len(example) != count or not all(text.strip() for text in example):
            expected = "one sentence" if count == 1 else f"{count} sentences separated by a tab"
            quoted = lines[i] if len(lines[i]) <= MAX_QUOTED else f"{lines[i][:MAX_QUOTED]}..."
            raise ValueError(f"{name}: line {i + 1} must have {expected}, got {quoted!r}")
    return examples


def _emit_json(
    options: argparse.Namespace, checkpoint: Path, examples: Any, output: Path | None, **results: Any
) -> None:
    """With --json, print the results; the sentences are included unless they were written to a file."""
    if options.json:
        report = {"model": options.model, "checkpoint": checkpoint, "output": output, **results}
        emit_json(report | ({"sentences": examples} if output is None else {}))
