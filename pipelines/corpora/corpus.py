"""From a data source to stores that training reads: checked, tokenised, written once and found again by fingerprint.

    STORAGE/data/FINGERPRINT/{train,validation,test}/    stores
                             vocabulary/                 of text
                             corpus.json                 kind, spec, and a report of what was left out

The folder appears whole or not at all, so a killed preparation and two at once are harmless.
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
from arae_core.settings.tree import flatten
from pipelines.corpora import sources
from pipelines.corpora.preparation import LEFT_OUT, SPLITS, Report, Rows, write_images, write_labelled, write_text
from pipelines.experiment.settings import BUILT_IN, Experiment

FORMAT = 1
"""Counts up when the same source and settings are prepared differently, so that nothing old is taken for it."""
LABELLED_FORMAT = 2
"""The same, of labelled examples."""


@dataclass(frozen=True)
class Corpus:
    """Prepared data. `report` holds the counts of each split, and "notes" in words."""

    folder: Path
    fingerprint: str
    kind: str
    spec: DataSpec
    report: Report

    @classmethod
    def load(cls, folder: Path) -> "Corpus":
        """Read what `prepare` wrote."""
        content = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        kind = content["kind"]
        spec = TextSpec(**content["shape"]) if kind == "text" else ImageSpec(**content["shape"])
        return cls(folder, folder.name, kind, spec, content["report"])

    def store(self, split: str) -> Store:
        """The examples of train, validation or test."""
        return load_store(self.folder / split)

    @property
    def vocabulary(self) -> Vocabulary | None:
        return Vocabulary.load(self.folder / "vocabulary") if self.kind == "text" else None

    def summary(self) -> list[str]:
        """The report in lines for people."""
        lines = []
        for split in SPLITS:
            counts = self.report[split]
            left = [f"{counts[why]:,} {why.replace('_', ' ')}" for why in LEFT_OUT if counts.get(why)]
            unknown = f", {counts['unknown']:.2%} of the words unknown" if counts.get("unknown") else ""
            classes = counts.get("classes", {})
            of = ": " + ", ".join(f"{count:,} {name}" for name, count in classes.items()) if classes else ""
            without = f" (left out: {', '.join(left)})" if left else ""
            lines.append(f"{split}: {counts['kept']:,} examples{of}{unknown}{without}")
        return lines + list(self.report["notes"])


def check_source(experiment: Experiment) -> None:
    """Raise ValueError where the data are neither built in, nor files that are there, nor named as on the hub: at once,
    before anything else is asked that takes time."""
    if experiment.data.source not in BUILT_IN:
        sources.find(experiment.data.source)


def prepare(experiment: Experiment, storage: Path) -> Corpus:
    """The experiment's data, prepared now or earlier.

    Raises ValueError for data that cannot be found or read, has none of the columns, leaves nothing to train on, or has
    fewer training examples, or more classes, than a batch.
    """
    root = storage.expanduser().resolve() / "data"
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = tempfile.TemporaryDirectory(prefix=".partial-", dir=root)
    except OSError as error:
        raise ValueError(f"storage must be a folder that can be written to, got {str(storage)!r}: {error}") from None
    with partial as temporary:
        digest, read = _open(experiment, Path(temporary) / "cache")
        folder = root / _fingerprint(experiment, digest)

        def build(built: Path) -> None:
            write = write_text if experiment.kind == "text" else write_images
            spec, report = write(experiment, read(), built)
            content = {"kind": experiment.kind, "shape": asdict(spec), "report": report}
            (built / "corpus.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

        _once(folder, "corpus.json", Path(temporary), build)
    corpus = Corpus.load(folder)
    examples = corpus.report["train"]["kept"]
    if experiment.batch_size > examples:
        raise ValueError(
            f"batch_size must be <= the {examples} training examples there are, got {experiment.batch_size}"
        )
    classes = len(corpus.spec.classes) if isinstance(corpus.spec, TextSpec) else 0
    if experiment.batch_size < classes:
        raise ValueError(f"batch_size must be >= the {classes} classes there are, got {experiment.batch_size}")
    return corpus


def prepare_labelled(experiment: Experiment, corpus: Corpus, storage: Path) -> tuple[Path, dict[str, Any]]:
    """The rows of the experiment's data as labelled examples, in the words of `corpus`: a folder with a LabelledStore
    for each split, and what is in them: "sentences" of an example; of each split "classes", "left_out", "repeated",
    "in_other_split" and "shortened".

    A row is an example: the texts of all its columns together. Raises ValueError as `prepare` does, for more than two
    columns, and where a split is missing of which rows would have to be held out that `corpus` has trained on.
    """
    root = storage.expanduser().resolve() / "data"
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as temporary:
        digest, read = _open(experiment, Path(temporary) / "cache")
        content = json.dumps(["labelled", LABELLED_FORMAT, corpus.fingerprint, _fingerprint(experiment, digest)])
        folder = root / hashlib.sha256(content.encode()).hexdigest()[:16]

        def build(built: Path) -> None:
            assert corpus.vocabulary is not None
            report = write_labelled(experiment, read(), corpus.vocabulary, built)
            (built / "labelled.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

        _once(folder, "labelled.json", Path(temporary), build)
    return folder, json.loads((folder / "labelled.json").read_text(encoding="utf-8"))


def _once(folder: Path, last: str, scratch: Path, build: Callable[[Path], None]) -> None:
    """Have build(somewhere) make what becomes `folder`, unless it is there. last: the file that it writes last."""
    if (folder / last).exists():
        return
    built = scratch / folder.name
    built.mkdir()
    build(built)
    try:
        built.rename(folder)
    except OSError:  # somebody else was faster, with the same content
        if not (folder / last).exists():
            raise


def _open(experiment: Experiment, cache: Path) -> tuple[bytes, Callable[[], Rows]]:
    """A digest of the source's content, and how to read it."""
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
    rows: dict[str, list[Any]] = {}
    for split, dataset in sources.load(data.source, files, cache).items():
        where = f"{data.source} ({split})"
        if experiment.kind == "text":
            rows[split] = sources.texts(dataset, data.columns, where)
            if data.label:  # of a row with texts in several columns, each has the row's
                of_rows = sources.labels(dataset, data.label, where)
                of_texts = [label for label in of_rows for _ in data.columns]
                rows[split] = [sources.Sentence(*pair) for pair in zip(rows[split], of_texts, strict=True)]
        else:
            rows[split] = sources.images(dataset, data.columns[0], where)
    return rows


def _digest(rows: Rows) -> bytes:
    """sha256 of the examples themselves, for a source without files."""
    total = hashlib.sha256()
    for split, examples in rows.items():
        total.update(f"{split} {len(examples)}\n".encode())
        for example in examples:
            array = not isinstance(example, str | tuple | None)
            content = example.tobytes() if array else json.dumps(example).encode()
            total.update(f"{example.shape if array else ''}{len(content)}\n".encode() + content)
    return total.digest()


def _fingerprint(experiment: Experiment, digest: bytes) -> str:
    """16 hex digits of the content and of every setting that decides what is made of it; paths do not count."""
    names = ["kind", "data.limit"]
    if experiment.kind == "text":
        names += ["longest", "data.distinct", "data.shortest"]
        names += ["vocabulary.tokenizer", "vocabulary.size", "vocabulary.lowercase"]
    if experiment.data.label:
        names += ["data.label", "data.classes"]
    if experiment.data.source not in BUILT_IN:
        names.append("data.columns")
    settings = flatten(experiment)
    values = {name: settings[name] for name in names}
    tokenizer = Path(experiment.vocabulary.tokenizer)
    tokenizer = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    if experiment.kind == "text" and tokenizer.is_file():
        values["vocabulary.tokenizer"] = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    content = json.dumps([FORMAT, digest.hex(), values], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
