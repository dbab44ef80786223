"""What becomes of the examples read: which are kept, and the stores they are written to.

Nothing is lost silently: each example is kept, or counted under the first reason in LEFT_OUT that applies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import normalizers, pre_tokenizers

from arae_core.data.batches import ImageStore, TokenStore
from arae_core.data.data_spec import ImageSpec, TextSpec
from arae_core.data.labelled import LabelledStore
from arae_core.data.vocabulary import Vocabulary
from arae_core.evaluation.images import NEIGHBOURS
from arae_core.settings import TOKENIZERS, VocabularySettings
from pipelines.corpora.sources import Sentence, hub_is_off
from pipelines.experiment.settings import BUILT_IN, Experiment

Report = dict[str, Any]
Rows = Mapping[str, Any]
"""Split -> its examples as read, in order: texts, Sentences, or grey values [H, W]; None for a null."""

SPLITS = ("train", "validation", "test")
LEFT_OUT = ("empty", "unlabelled", "repeated", "in_other_split", "too_long", "too_short", "over_limit")
MOST_CLASSES = 100
"""More values make no attribute but some other column, unless they are named."""
HELD_OUT = 10_000
"""Most examples taken from training for a split that the source does not have; else a tenth."""


def write_text(experiment: Experiment, rows: Rows, folder: Path) -> tuple[TextSpec, Report]:
    """Write stores and vocabulary into `folder`. A text that comes with two labels keeps its first.

    Raises ValueError where no sentence of a split is left, the vocabulary would have a single word, or fewer than two
    classes are left.
    """
    words = _words_of(experiment.vocabulary)
    report = _new_report()
    every = {split: _sentences(examples) for split, examples in _with_all_splits(rows, report).items()}
    classes = _classes(experiment, every["train"]) if experiment.data.label else ()
    sentences: dict[str, list[tuple[str, Sentence]]] = {}  # (the words that make it distinct, the text as it came)
    for split, examples in every.items():
        pairs = [(words(example.text), example) for example in examples if example.text is not None]
        pairs = [pair for pair in pairs if pair[0]]
        sentences[split] = [pair for pair in pairs if not classes or pair[1].label in classes]
        report[split] |= {"read": len(examples), "empty": len(examples) - len(pairs)}
        report[split]["unlabelled"] = len(pairs) - len(sentences[split])
    if experiment.data.distinct:
        held: set[str] = set()
        for split in ("test", "validation", "train"):
            first = {key: (key, example) for key, example in reversed(sentences[split])}
            own = first.keys() - held
            report[split]["repeated"] = len(sentences[split]) - len(first)
            report[split]["in_other_split"] = len(first) - len(own)
            sentences[split] = [pair for key, pair in reversed(first.items()) if key in own]
            held |= own
    # A token is a word or a part of one, so too many words are too many tokens, and the vocabulary need not know them.
    low = experiment.data.shortest if experiment.vocabulary.tokenizer in ("words", "spaces") else 1
    kept = {
        split: _of_length([(key.count(" ") + 1, example) for key, example in pairs], low, experiment.longest, counts)
        for split, pairs in sentences.items()
        for counts in [report[split]]
    }
    kept["train"] = _limited(kept["train"], experiment.data.limit, report["train"])
    _require_some(kept, experiment, report)
    tokenizer = experiment.vocabulary.tokenizer
    if tokenizer not in TOKENIZERS and not Path(tokenizer).exists():
        hub_is_off()  # told here, it is not asked again and again
    vocabulary = Vocabulary.train([str(example.text) for example in kept["train"]], experiment.vocabulary)
    for split, examples in kept.items():
        ids = vocabulary.encode([str(example.text) for example in examples])
        sized = [(len(row), (row, example.label)) for row, example in zip(ids, examples, strict=True)]
        kept[split] = _of_length(sized, experiment.data.shortest, experiment.longest, report[split])
        labels = [classes.index(label) for _, label in kept[split]] if classes else None
        store = TokenStore.from_rows([row for row, _ in kept[split]], labels)
        unknown = int((store.ids == vocabulary.unknown).sum())
        report[split] |= {"kept": len(store), "tokens": len(store.ids), "unknown": unknown / max(1, len(store.ids))}
        if labels is not None:
            report[split]["classes"] = {name: labels.count(y) for y, name in enumerate(classes)}
        store.save(folder / split)
    _require_some(kept, experiment, report)
    for name, count in report["train"].get("classes", {}).items():
        if not count:
            raise ValueError(f"data.classes: no training sentence of class {name!r} is left")
    vocabulary.save(folder / "vocabulary")
    report["vocabulary"] = len(vocabulary)
    return replace(vocabulary.spec, classes=classes), report


def write_labelled(experiment: Experiment, rows: Rows, vocabulary: Vocabulary, folder: Path) -> dict[str, Any]:
    """Write a LabelledStore of each split into `folder`. rows: the texts of each example one after another, all with
    its label. Words past `longest` are not read, so that no example is lost for its length; those without a label, with
    one that is not used or with an empty text are, and, as `data.distinct` says, repetitions and what a held-out split
    has: an example is then its texts, all of them.

    Raises ValueError for fewer than two classes and for splits without examples.
    """
    per = 2 if experiment.data.source == "grammar" and experiment.data.label == "entailment" else 1
    per = per if experiment.data.source in BUILT_IN else len(experiment.data.columns)
    grouped = {split: [examples[i : i + per] for i in range(0, len(examples), per)] for split, examples in rows.items()}
    report: dict[str, Any] = {}
    if per > 1 and set(SPLITS) - set(grouped):
        missing = " and ".join(split for split in SPLITS if split not in grouped)
        raise ValueError(f"data.source: {experiment.data.source} has no {missing} split; pairs need all three")
    grouped = dict(_with_all_splits(grouped, _new_report()))
    classes = _classes(experiment, [example[0] for example in grouped["train"]])
    words = _words_of(experiment.vocabulary)
    held: set[tuple[str, ...]] = set()
    for split in ("test", "validation", "train"):
        labelled = [example for example in grouped[split] if example[0].label in classes]
        keyed = [(tuple(words(str(each.text or "")) for each in example), example) for example in labelled]
        filled = [(key, example) for key, example in keyed if all(key)]
        used, counts = [example for _, example in filled], {"repeated": 0, "in_other_split": 0}
        if experiment.data.distinct:
            first = dict(reversed(filled))
            used = [example for key, example in reversed(first.items()) if key not in held]
            counts = {"repeated": len(filled) - len(first), "in_other_split": len(first) - len(used)}
            held |= first.keys()
        ids = vocabulary.encode([str(each.text or "") for example in used for each in example])
        longest = [ids[i * per : i * per + per] for i in range(len(used))]
        whole = [(example, texts) for example, texts in zip(used, longest, strict=True) if all(texts)]
        if not whole:
            raise ValueError(f"data.source: no labelled example of {experiment.data.source} is left for {split}")
        cut = [[text[: experiment.longest] for text in texts] for _, texts in whole]
        labels = [classes.index(str(example[0].label)) for example, _ in whole]
        LabelledStore.from_rows(cut, labels).save(folder / split)
        report[split] = {
            "classes": {name: labels.count(y) for y, name in enumerate(classes)},
            "left_out": len(grouped[split]) - len(whole) - sum(counts.values()),
            **counts,
            "shortened": sum(any(len(text) > experiment.longest for text in texts) for _, texts in whole),
        }
    return {split: report[split] for split in SPLITS} | {"sentences": per}


def _sentences(examples: Sequence[Any]) -> list[Sentence]:
    return [example if isinstance(example, Sentence) else Sentence(example, None) for example in examples]


def _classes(experiment: Experiment, train: Sequence[Sentence]) -> tuple[str, ...]:
    """Names of the classes, in order of the alphabet where they are not given."""
    data, found = experiment.data, sorted({example.label for example in train if example.label is not None})
    for name in data.classes:
        if name not in found:
            raise ValueError(
                f"data.classes must be among {', '.join(found)}, the values of {data.label!r}, got {name!r}"
            )
    if len(found) < 2:
        raise ValueError(f"data.label: {data.label!r} must have two or more values in training, got {found}")
    if not data.classes and len(found) > MOST_CLASSES:
        raise ValueError(
            f"data.label: {data.label!r} has {len(found)} values, more than {MOST_CLASSES}, so it is no class label; "
            "name those to use with --data.classes"
        )
    return data.classes or tuple(found)


def write_images(experiment: Experiment, rows: Rows, folder: Path) -> tuple[ImageSpec, Report]:
    """Binarize and write stores into `folder`: white from half of the largest possible grey value on.

    The largest possible is 255 for images; for arrays the largest that there is in training.
    Raises ValueError where images differ in size, or a split has none, or validation too few to judge samples by.
    """
    report = _new_report()
    found: dict[str, list[NDArray[Any]]] = {}
    for split, images in _with_all_splits(rows, report).items():
        found[split] = [image for image in images if image is not None]
        report[split]["read"], report[split]["empty"] = len(images), len(images) - len(found[split])
    found["train"] = _limited(found["train"], experiment.data.limit, report["train"])
    sizes: dict[tuple[int, ...], str] = {}  # of each, the first image that has it
    for split, images in found.items():
        if not images:
            raise ValueError(f"data.source: no image in the {split} split of {experiment.data.source}")
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, f"{split} image {i}")
    if len(sizes) > 1:
        some = ", ".join(f"{height}x{width} ({where})" for (height, width), where in list(sizes.items())[:3])
        raise ValueError(f"data.source: all images must be of one size, got {some}; resize them first")
    height, width = next(iter(sizes))
    largest = _largest(found["train"])
    if (count := len(found["validation"])) <= NEIGHBOURS:
        raise ValueError(
            f"data.source: {experiment.data.source} has {count} validation images, samples are judged by more than "
            f"{NEIGHBOURS}; give it more images, or a validation split"
        )
    for split, images in found.items():
        white = np.stack(images).reshape(len(images), -1) >= largest / 2
        ImageStore(white.astype(np.uint8), height, width).save(folder / split)
        report[split] |= {"kept": len(images), "white": float(white.mean())}
    return ImageSpec(height, width), report


def _largest(images: Sequence[NDArray[Any]]) -> float:
    least, most = min(image.min() for image in images), max(image.max() for image in images)
    if images[0].dtype == np.uint8 and most > 1:
        return 255.0
    if not 0 <= least < most:
        raise ValueError(f"data.source: images must have grey values >= 0 that differ, got {least} to {most}")
    return float(most)


def _new_report() -> Report:
    return {split: dict.fromkeys(("read", *LEFT_OUT), 0) for split in SPLITS} | {"notes": []}


def _with_all_splits(rows: Rows, report: Report) -> Rows:
    """Where validation or test is missing, a random part of train takes its place; always the same part."""
    if not len(rows.get("train", ())):
        raise ValueError("data.source: no rows to train on")
    full = {split: rows[split] for split in SPLITS if split in rows}
    for split in SPLITS[1:]:
        if split not in full:
            train = full["train"]
            order = np.random.default_rng(0).permutation(len(train))
            count = max(1, min(len(train) // 10, HELD_OUT))
            held, rest = np.sort(order[:count]), np.sort(order[count:])
            full["train"], full[split] = [train[i] for i in rest], [train[i] for i in held]
            report["notes"].append(f"no {split} split: {count:,} examples of train, drawn at random, take its place")
    return full


def _words_of(settings: VocabularySettings) -> Callable[[str], str]:
    """How a text reads once normalised and split into words, with single spaces between."""
    ours = settings.tokenizer in TOKENIZERS
    lower = normalizers.Lowercase().normalize_str if ours and settings.lowercase else str
    if settings.tokenizer != "words":
        return lambda text: " ".join(lower(text).split())
    split = pre_tokenizers.Whitespace().pre_tokenize_str
    return lambda text: " ".join([word for word, _ in split(lower(text))])


def _of_length(sized: Sequence[tuple[int, Any]], shortest: int, longest: int, counts: dict[str, int]) -> list[Any]:
    counts["too_long"] += sum(length > longest for length, _ in sized)
    counts["too_short"] += sum(length < shortest for length, _ in sized)
    return [example for length, example in sized if shortest <= length <= longest]


def _limited(examples: list[Any], limit: int, counts: dict[str, int]) -> list[Any]:
    if not limit or len(examples) <= limit:
        return examples
    counts["over_limit"] = len(examples) - limit
    return [examples[i] for i in np.sort(np.random.default_rng(0).permutation(len(examples))[:limit])]


def _require_some(kept: Rows, experiment: Experiment, report: Report) -> None:
    for split, examples in kept.items():
        if not examples:
            left = ", ".join(f"{report[split][why]} {why.replace('_', ' ')}" for why in LEFT_OUT if report[split][why])
            raise ValueError(
                f"data.source: no sentence of {experiment.data.source} is left for {split} ({left or 'no rows'}); "
                f"data.shortest is {experiment.data.shortest}, longest is {experiment.longest}"
            )
