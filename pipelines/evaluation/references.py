"""Sentences with people's own rewritings, and what other systems wrote for them: files to score transfer with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.experiment import sources

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]


@dataclass(frozen=True)
class References:
    """sentences[N] of classes own[N], to be said again as of another one; rewritten[R][N] by people; outputs[N] of
    other systems by their names."""

    sentences: list[str]
    own: list[str]
    rewritten: list[list[str]]
    outputs: dict[str, list[str]]


def read_references(references: Path, outputs: Path | None, classes: Sequence[str], cache: Path) -> References:
    """Columns of `references`: source, label, reference or reference_0, reference_1 and so on. Of `outputs`: system,
    source and output, a row for each system and sentence. Labels are names of classes, or numbers of them from 0 on.

    Raises ValueError for files or columns that are missing, classes that the model does not know, and systems that
    wrote nothing for some of the sentences.
    """
    table = _table(references, cache)
    names = sorted(name for name in table.column_names if name == "reference" or name.startswith("reference_"))
    if not names:
        raise ValueError(f"--references {references}: it must have a column reference, or reference_0 and so on")
    sentences, *rewritten = ([str(text) for text in _texts(table, name, references)] for name in ("source", *names))
    own = [str(label) for label in sources.labels(table, "label", str(references))]
    numbers = {str(y): name for y, name in enumerate(classes)}
    if not set(own) & set(classes) and set(own) <= set(numbers):
        own = [numbers[label] for label in own]
    for label in set(own):
        if label not in classes:
            raise ValueError(f"--references {references}: the model knows {', '.join(classes)}, not {label!r}")
    found: dict[str, dict[str, str]] = {}
    if outputs is not None:
        other = _table(outputs, cache)
        columns = (_texts(other, name, outputs) for name in ("system", "source", "output"))
        for system, source, output in zip(*columns, strict=True):
            found.setdefault(str(system), {})[str(source)] = str(output or "")
    aligned = {}
    for system, written in found.items():
        missing = sum(sentence not in written for sentence in sentences)
        if missing:
            raise ValueError(
                f"--outputs {outputs}: {system} has nothing for {missing} of the {len(sentences)} sentences"
            )
        aligned[system] = [written[sentence] for sentence in sentences]
    return References(sentences, own, rewritten, aligned)


def _table(path: Path, cache: Path) -> "Dataset":
    return sources.load(str(path), sources.find(str(path)), cache)["train"]


def _texts(table: "Dataset", column: str, path: Path) -> list[str | None]:
    if column not in table.column_names:
        raise ValueError(f"{path} must have a column {column}, it has {', '.join(table.column_names)}")
    return sources.texts(table, [column], str(path))
