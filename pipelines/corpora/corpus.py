"""Prepared data: a source is checked, tokenized and written once, and found again by its fingerprint.

    STORAGE/data/FINGERPRINT/{train,validation,test}/    stores
                             vocabulary/                 for text
                             corpus.json                 kind, spec and report

The folder appears complete or not at all, so a killed preparation leaves nothing behind, and two at once are harmless.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arae_core.data.batches import Store, load_store
from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.settings.declaration import named, without_effect
from arae_core.settings.tree import flatten
from pipelines.corpora import sources, tables
from pipelines.corpora.preparation import LEFT_OUT, SPLITS, Report, Rows, write_images, write_labelled, write_text
from pipelines.corpora.sources import Sentence
from pipelines.corpora.tables import Columns, read_columns
from pipelines.experiment.settings import BUILT_IN, Experiment

FORMAT = 1
"""Increases when the same source and settings are prepared differently, so that older data is not used."""
LABELLED_FORMAT = 2
"""The same for labelled examples."""


@dataclass(frozen=True)
class Corpus:
    """Prepared data. `report` holds the counts of each split, and under "notes" lines for people."""

    folder: Path
    fingerprint: str
    kind: str
    spec: DataSpec
    report: Report

    @classmethod
    def load(cls, folder: Path) -> "Corpus":
        """Load a folder that `prepare` wrote."""
        content = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        kind = content["kind"]
        spec = TextSpec(**content["shape"]) if kind == "text" else ImageSpec(**content["shape"])
        return cls(folder, folder.name, kind, spec, content["report"])

    def store(self, split: str) -> Store:
        """Return the examples of train, validation or test."""
        return load_store(self.folder / split)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary of a text corpus; None for images."""
        return Vocabulary.load(self.folder / "vocabulary") if self.kind == "text" else None

    def summary(self) -> list[str]:
        """Return the report as lines for people."""
        lines = []
        for split in SPLITS:
            counts = self.report[split]
            left_out = [f"{counts[reason]:,} {reason.replace('_', ' ')}" for reason in LEFT_OUT if counts.get(reason)]
            unknown = f", {counts['unknown']:.2%} unknown tokens" if counts.get("unknown") else ""
            by_class = ", ".join(f"{count:,} {name}" for name, count in counts.get("classes", {}).items())
            classes = f": {by_class}" if by_class else ""
            missing = f" (left out: {', '.join(left_out)})" if left_out else ""
            lines.append(f"{split}: {counts['kept']:,} examples{classes}{unknown}{missing}")
        return lines + list(self.report["notes"])


def check_source(experiment: Experiment) -> None:
    """Raise ValueError if the source is not built in, does not exist, and cannot be a name on the hub. Fast."""
    if experiment.data.source not in BUILT_IN:
        sources.find(experiment.data.source)


def prepare(experiment: Experiment, storage: Path) -> Corpus:
    """Return the experiment's data, prepared now or earlier.

    Raise ValueError if the data cannot be found or read, lacks the columns, leaves nothing to train on, or has fewer
    training examples than a batch, or more classes.
    """
    root = storage.expanduser().resolve() / "data"
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".partial-", dir=root)
    except OSError as error:
        raise ValueError(f"storage must be a writable folder, got {str(storage)!r}: {error}") from None
    with scratch as temporary:
        digest, read = _open(experiment, Path(temporary) / "cache")
        folder = root / _fingerprint(experiment, digest)

        def build(built: Path) -> None:
            write = write_text if experiment.kind == "text" else write_images
            spec, report = write(experiment, read(), built)
            _write_json(built / "corpus.json", {"kind": experiment.kind, "shape": asdict(spec), "report": report})

        _build_once(folder, "corpus.json", Path(temporary), build)
    corpus = Corpus.load(folder)
    examples = corpus.report["train"]["kept"]
    if experiment.batch_size > examples:
        raise ValueError(
            f"batch_size must be <= the number of training examples ({examples}), got {experiment.batch_size}"
        )
    classes = len(corpus.spec.classes) if isinstance(corpus.spec, TextSpec) else 0
    if experiment.batch_size < classes:
        raise ValueError(f"batch_size must be >= the number of classes ({classes}), got {experiment.batch_size}")
    return corpus


def prepare_labelled(experiment: Experiment, corpus: Corpus, storage: Path) -> tuple[Path, dict[str, Any]]:
    """Return the rows of the data as labelled examples, tokenized with the vocabulary of `corpus`: (folder, report).

    The folder has a LabelledStore for each split. The report has "sentences", the number of sentences in an example,
    and for each split "classes", "left_out", "repeated", "in_other_split" and "shortened". A row is one example with
    the texts of all its columns.

    Raise ValueError as `prepare` does, for more than two columns, and for pairs without a validation or test split:
    `corpus` has trained on the rows that would have to be held out.
    """
    root = storage.expanduser().resolve() / "data"
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as temporary:
        digest, read = _open(experiment, Path(temporary) / "cache")
        content = json.dumps(["labelled", LABELLED_FORMAT, corpus.fingerprint, _fingerprint(experiment, digest)])
        folder = root / hashlib.sha256(content.encode()).hexdigest()[:16]

        def build(built: Path) -> None:
            assert corpus.vocabulary is not None
            report = write_labelled(experiment, read(), corpus.vocabulary, built)
            _write_json(built / "labelled.json", report)

        _build_once(folder, "labelled.json", Path(temporary), build)
    return folder, json.loads((folder / "labelled.json").read_text(encoding="utf-8"))


def _build_once(folder: Path, last: str, scratch: Path, build: Callable[[Path], None]) -> None:
    """Create `folder` with build(path), unless it exists. `last` is the file that `build` writes last."""
    if (folder / last).exists():
        return
    built = scratch / folder.name
    built.mkdir()
    build(built)
    try:
        built.rename(folder)
    except OSError:  # another process was faster, with the same content
        if not (folder / last).exists():
            raise


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _open(experiment: Experiment, cache: Path) -> tuple[bytes, Callable[[], Rows]]:
    """Return (digest of the source's content, function that reads it)."""
    data = experiment.data
    rows: Rows
    if data.source == "grammar":
        from pipelines.corpora.grammar import corpus

        rows = corpus(data.size, 0, data.label)
    elif data.source == "digits":
        from pipelines.corpora.digits import digits

        rows = digits()
    else:
        files = sources.find(data.source)
        if files is not None:
            return files.digest(), lambda: _read(experiment, files, cache)
        rows = _read(experiment, None, cache)
    return _digest(rows), lambda: rows


def _read(experiment: Experiment, files: sources.Files | None, cache: Path) -> Rows:
    data = experiment.data
    columns = Columns(data.columns, data.label)
    if experiment.kind == "text" and files is not None:
        return {split: _examples(read_columns(paths, columns), columns) for split, paths in files.splits.items()}
    rows: dict[str, list[Any]] = {}
    for split, dataset in sources.load(data.source, files, cache).items():
        where = f"{data.source} ({split})"
        if experiment.kind == "text":
            rows[split] = _examples(sources.hub_rows(dataset, columns, where), columns)
        else:
            rows[split] = sources.images(dataset, data.columns[0], where)
    return rows


def _examples(rows: tables.Rows, columns: Columns) -> list[Any]:
    """Return the texts of all columns, row by row. Texts of several columns share the label of their row."""
    texts = [text for row in zip(*(rows.texts[name] for name in columns.texts), strict=True) for text in row]
    if not columns.label:
        return texts
    labels = [label for label in rows.labels for _ in columns.texts]
    return [Sentence(*pair) for pair in zip(texts, labels, strict=True)]


def _digest(rows: Rows) -> bytes:
    """Return the sha256 of the examples, for a source without files."""
    total = hashlib.sha256()
    for split, examples in rows.items():
        total.update(f"{split} {len(examples)}\n".encode())
        for example in examples:
            array = not isinstance(example, str | tuple | None)
            content = example.tobytes() if array else json.dumps(example).encode()
            total.update(f"{example.shape if array else ''}{len(content)}\n".encode() + content)
    return total.digest()


def _fingerprint(experiment: Experiment, digest: bytes) -> str:
    """Return 16 hex digits that identify the prepared data: source content and settings. Paths do not count."""
    settings, irrelevant = flatten(experiment), without_effect(experiment)
    values = {
        name: settings[name]
        for name in named(type(experiment), "prepares")
        # size and lowercase count with a pretrained tokenizer too, though they have no effect
        if name not in irrelevant or irrelevant[name].startswith("vocabulary.tokenizer")
    }
    if not experiment.data.label:
        del values["data.label"]
    tokenizer = Path(experiment.vocabulary.tokenizer)
    tokenizer = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    if experiment.kind == "text" and tokenizer.is_file():
        values["vocabulary.tokenizer"] = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    content = json.dumps([FORMAT, digest.hex(), values], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
