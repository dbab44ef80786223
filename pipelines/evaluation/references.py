"""Files to score attribute transfer with: sentences with human rewritings, and outputs of other systems."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.corpora import sources
from pipelines.corpora.tables import Columns, Rows, column_names, read_columns


@dataclass(frozen=True)
class References:
    """Sentences to rewrite: sentences[N] of the classes labels[N].

    references: human rewritings [R][N]; None where a sentence has fewer than R. outputs: [N] by each other system,
    keyed by its name.
    """

    sentences: list[str]
    labels: list[str]
    references: list[list[str | None]]
    outputs: dict[str, list[str]]


def read_references(references: Path, outputs: Path | None, classes: Sequence[str]) -> References:
    """Read the sentences to rewrite and, if there are any, the outputs of other systems.

    Columns of `references`: source, label, and reference or reference_0, reference_1 and so on, of which a row needs
    one. Columns of `outputs`: system, source and output, with one row per system and sentence. Labels are names of
    `classes` or their numbers.

    Raise ValueError for missing files or columns, unknown classes, sentences without a reference, and systems without
    an output for some sentence.
    """
    flag = "--references"
    names = sorted(n for n in _names(flag, references) if n == "reference" or n.startswith("reference_"))
    if not names:
        raise ValueError(f"{flag} {references} must have a column reference, or reference_0 and so on")
    rows = _read(flag, references, ("source", *names), "label")
    written = [[text if text and text.strip() else None for text in rows.texts[name]] for name in names]
    sentences = [text or "" for text in rows.texts["source"]]
    for number, (sentence, *texts) in enumerate(zip(sentences, *written, strict=True), 1):
        if not sentence.strip() or not any(texts):
            missing = "reference" if sentence.strip() else "source"
            raise ValueError(f"{flag} {references}: row {number} has no {missing}")
    labels = _class_names([str(label) for label in rows.labels], classes, references)
    systems = _read_outputs(outputs, sentences) if outputs is not None else {}
    return References(sentences, labels, written, systems)


def _class_names(labels: list[str], classes: Sequence[str], path: Path) -> list[str]:
    """Return the labels as names of classes; numbers count from 0. Raise ValueError for an unknown class."""
    numbers = {str(y): name for y, name in enumerate(classes)}
    if not set(labels) & set(classes) and set(labels) <= set(numbers):
        labels = [numbers[label] for label in labels]
    for label in set(labels):
        if label not in classes:
            raise ValueError(f"--references {path}: label must be one of {', '.join(classes)}, got {label!r}")
    return labels


def _read_outputs(path: Path, sentences: Sequence[str]) -> dict[str, list[str]]:
    """Return system -> its output for each of the sentences."""
    rows = _read("--outputs", path, ("system", "source", "output"))
    found: dict[str, dict[str, str]] = {}
    for system, source, output in zip(*(rows.texts[name] for name in ("system", "source", "output")), strict=True):
        found.setdefault(str(system), {})[str(source)] = str(output or "")
    for system, written in found.items():
        missing = sum(sentence not in written for sentence in sentences)
        if missing:
            raise ValueError(f"--outputs {path}: {system} has no output for {missing} of {len(sentences)} sentences")
    return {system: [written[sentence] for sentence in sentences] for system, written in found.items()}


def _names(flag: str, path: Path) -> list[str]:
    with _errors(flag):
        return column_names(_files(path))


def _read(flag: str, path: Path, texts: Sequence[str], label: str = "") -> Rows:
    names = _names(flag, path)
    for name in (*texts, *([label] if label else [])):
        if name not in names:
            raise ValueError(f"{flag} {path} must have a column {name}, it has {', '.join(names)}")
    with _errors(flag):
        return read_columns(_files(path), Columns(texts, label, flag, flag))


def _files(path: Path) -> Sequence[Path]:
    files = sources.find(str(path))
    if files is None:
        raise ValueError(f"data.source: no such file: {path}")
    return files.splits["train"]


@contextmanager
def _errors(flag: str) -> Iterator[None]:
    """Name the flag in errors, instead of the setting of the training data."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace("data.source", flag, 1)) from None
