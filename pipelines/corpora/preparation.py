"""Selects examples, and writes those that are kept to stores.

No example is lost silently: each is kept, or counted under the first reason in LEFT_OUT that applies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arae_core.data.batches import ImageStore, TokenStore
from arae_core.data.data_spec import ImageSpec, TextSpec
from arae_core.data.labelled import LabelledStore
from arae_core.data.vocabulary import Vocabulary
from arae_core.evaluation.images import NEIGHBOURS
from arae_core.settings import TOKENIZERS
from pipelines.corpora.sources import Sentence, hub_is_off
from pipelines.corpora.words import beginning, key_of, splitter
from pipelines.experiment.settings import BUILT_IN, Experiment

Report = dict[str, Any]
Rows = Mapping[str, Any]
"""Split -> examples in the order of the source: texts, Sentences, or grey values [H, W]; None for a null."""
Keyed = tuple[Any, Any]
"""(key that is equal for equal examples, example)."""

SPLITS = ("train", "validation", "test")
LEFT_OUT = ("empty", "unlabelled", "repeated", "in_other_split", "too_long", "too_short", "over_limit")
MAX_CLASSES = 100
"""A column with more values is not taken for a class label unless data.classes names the values to use."""
HELD_OUT = 10_000
"""Largest number of training examples that replace a missing split; a tenth of them if that is less."""


def write_text(experiment: Experiment, rows: Rows, folder: Path) -> tuple[TextSpec, Report]:
    """Write the stores and the vocabulary to `folder`. A text with two labels keeps the first one.

    Raise ValueError if a split has no sentences left, the vocabulary would have a single word, or fewer than two
    classes are left.
    """
    words = splitter(experiment.vocabulary)
    report = _new_report()
    every = {split: _sentences(examples) for split, examples in _with_all_splits(rows, report).items()}
    classes = _classes(experiment, every["train"]) if experiment.data.label else ()
    keyed: dict[str, list[tuple[str, Sentence]]] = {}  # (the words of the text, the text as read)
    for split, examples in every.items():
        present = [(example.text, example) for example in examples if example.text is not None]
        pairs = [(key_of(content, words, experiment.longest), example) for content, example in present]
        pairs = [pair for pair in pairs if pair[0]]
        keyed[split] = [pair for pair in pairs if not classes or pair[1].label in classes]
        report[split] |= {"read": len(examples), "empty": len(examples) - len(pairs)}
        report[split]["unlabelled"] = len(pairs) - len(keyed[split])
    if experiment.data.distinct:
        distinct, counts = _distinct(keyed)
        keyed |= distinct
        for split in SPLITS:
            report[split] |= counts[split]
    # A token is a word or a part of one: too many words are too many tokens, and the vocabulary need not contain them.
    low = experiment.data.shortest if experiment.vocabulary.tokenizer in ("words", "spaces") else 1
    kept: dict[str, list[Any]] = {}
    for split, pairs in keyed.items():
        sized = [(key.count(" ") + 1, example) for key, example in pairs]
        kept[split] = _of_length(sized, low, experiment.longest, report[split])
    kept["train"] = _limited(kept["train"], experiment.data.limit, report["train"])
    _require_some(kept, experiment, report)
    vocabulary = _train_vocabulary(experiment, kept["train"])
    if lost := vocabulary.lost_characters([str(example.text) for example in kept["train"]]):
        report["notes"].append(_lost_note(lost, [str(example.text) for example in kept["train"]]))
    for split, examples in kept.items():
        kept[split] = _write_tokens(experiment, vocabulary, classes, examples, report[split], folder / split)
    _require_some(kept, experiment, report)
    for name, count in report["train"].get("classes", {}).items():
        if not count:
            raise ValueError(f"data.classes: no training sentence of class {name!r} is left")
    vocabulary.save(folder / "vocabulary")
    report["vocabulary"] = len(vocabulary)
    return replace(vocabulary.spec, classes=classes), report


def _distinct(keyed: Mapping[str, list[Keyed]]) -> tuple[dict[str, list[Keyed]], dict[str, dict[str, int]]]:
    """Keep the first example with each key, and keep examples of test and validation out of the other splits.

    Returns the examples of each split, and its counts "repeated" and "in_other_split".
    """
    kept: dict[str, list[Keyed]] = {}
    counts = {}
    held_out: set[Any] = set()
    for split in reversed(SPLITS):
        first = dict(reversed(keyed[split]))
        kept[split] = [(key, example) for key, example in reversed(first.items()) if key not in held_out]
        counts[split] = {"repeated": len(keyed[split]) - len(first), "in_other_split": len(first) - len(kept[split])}
        held_out |= first.keys()
    return kept, counts


def _train_vocabulary(experiment: Experiment, train: Sequence[Sentence]) -> Vocabulary:
    tokenizer = experiment.vocabulary.tokenizer
    if tokenizer not in TOKENIZERS and not Path(tokenizer).exists():
        hub_is_off()  # if the hub does not answer, later requests fail at once
    return Vocabulary.train([str(example.text) for example in train], experiment.vocabulary)


def _lost_note(lost: Sequence[str], texts: Sequence[str]) -> str:
    affected = sum(not set(lost).isdisjoint(text) for text in texts)
    return (
        f"warning: the tokenizer has no unknown token, and drops the {len(lost)} characters that it has no token for, "
        f"such as {lost[0]!r}; they are in {affected:,} of {len(texts):,} training sentences"
    )


def _write_tokens(
    experiment: Experiment,
    vocabulary: Vocabulary,
    classes: Sequence[str],
    examples: Sequence[Sentence],
    counts: Report,
    folder: Path,
) -> list[tuple[list[int], str | None]]:
    """Write the token store of a split, complete its counts, and return the (ids, label) that it holds."""
    ids = vocabulary.encode([str(example.text) for example in examples])
    sized = [(len(row), (row, example.label)) for row, example in zip(ids, examples, strict=True)]
    kept = _of_length(sized, experiment.data.shortest, experiment.longest, counts)
    labels = [classes.index(label) for _, label in kept] if classes else None
    store = TokenStore.from_rows([row for row, _ in kept], labels)
    unknown = int((store.ids == vocabulary.unknown).sum())
    counts |= {"kept": len(store), "tokens": len(store.ids), "unknown": unknown / max(1, len(store.ids))}
    if labels is not None:
        counts["classes"] = {name: labels.count(y) for y, name in enumerate(classes)}
    store.save(folder)
    return kept


def write_labelled(experiment: Experiment, rows: Rows, vocabulary: Vocabulary, folder: Path) -> dict[str, Any]:
    """Write a LabelledStore for each split to `folder` and return the report that `prepare_labelled` describes.

    rows: the texts of each example one after another, all with its label. Sentences are cut at `longest` tokens, so no
    example is lost for its length. Examples without a label, with an unused label or with an empty text are left out,
    and so are repeated examples if `data.distinct` is true; two examples are equal if all their texts are.

    Raise ValueError for fewer than two classes and for a split without examples.
    """
    per = 2 if experiment.data.source == "grammar" and experiment.data.label == "entailment" else 1
    per = per if experiment.data.source in BUILT_IN else len(experiment.data.columns)
    grouped = {split: [examples[i : i + per] for i in range(0, len(examples), per)] for split, examples in rows.items()}
    if per > 1 and set(SPLITS) - set(grouped):
        missing = " and ".join(split for split in SPLITS if split not in grouped)
        raise ValueError(f"data.source: {experiment.data.source} has no {missing} split; pairs need all three")
    grouped = dict(_with_all_splits(grouped, _new_report()))
    classes = _classes(experiment, [example[0] for example in grouped["train"]])
    words = splitter(experiment.vocabulary)
    keyed: dict[str, list[tuple[tuple[str, ...], Sequence[Sentence]]]] = {}
    for split, examples in grouped.items():
        labelled = [example for example in examples if example[0].label in classes]
        pairs = [
            (tuple(key_of(str(each.text or ""), words, experiment.longest) for each in example), example)
            for example in labelled
        ]
        keyed[split] = [(key, example) for key, example in pairs if all(key)]
    counts = {split: {"repeated": 0, "in_other_split": 0} for split in SPLITS}
    if experiment.data.distinct:
        keyed, counts = _distinct(keyed)
    report: dict[str, Any] = {}
    for split in reversed(SPLITS):
        used = [example for _, example in keyed[split]]
        texts_of = (str(each.text or "") for example in used for each in example)
        ids = vocabulary.encode([beginning(content, words, experiment.longest) for content in texts_of])
        rows_of = [ids[i * per : i * per + per] for i in range(len(used))]
        whole = [(example, texts) for example, texts in zip(used, rows_of, strict=True) if all(texts)]
        if not whole:
            raise ValueError(f"data.source: no labelled example of {experiment.data.source} is left for {split}")
        cut = [[text[: experiment.longest] for text in texts] for _, texts in whole]
        labels = [classes.index(str(example[0].label)) for example, _ in whole]
        LabelledStore.from_rows(cut, labels).save(folder / split)
        report[split] = {
            "classes": {name: labels.count(y) for y, name in enumerate(classes)},
            "left_out": len(grouped[split]) - len(whole) - sum(counts[split].values()),
            **counts[split],
            "shortened": sum(any(len(text) > experiment.longest for text in texts) for _, texts in whole),
        }
    return {split: report[split] for split in SPLITS} | {"sentences": per}


def _sentences(examples: Sequence[Any]) -> list[Sentence]:
    return [example if isinstance(example, Sentence) else Sentence(example, None) for example in examples]


def _classes(experiment: Experiment, train: Sequence[Sentence]) -> tuple[str, ...]:
    """Return the names of the classes: data.classes, or all values in alphabetical order."""
    data, found = experiment.data, sorted({example.label for example in train if example.label is not None})
    for name in data.classes:
        if name not in found:
            raise ValueError(
                f"data.classes must be among {', '.join(found)}, the values of {data.label!r}, got {name!r}"
            )
    if len(found) < 2:
        raise ValueError(f"data.label: {data.label!r} must have two or more values in training, got {found}")
    if not data.classes and len(found) > MAX_CLASSES:
        raise ValueError(
            f"data.label: {data.label!r} has {len(found)} values, more than {MAX_CLASSES}, so it is not a class label; "
            "name the values to use with --data.classes"
        )
    return data.classes or tuple(found)


def write_images(experiment: Experiment, rows: Rows, folder: Path) -> tuple[ImageSpec, Report]:
    """Binarize the images and write the stores to `folder`. Grey values of half the maximum and above become white.

    The maximum is 255 for images, and for arrays the largest value in training. Raise ValueError if the images differ
    in size, a split has none, or validation has too few to judge samples by.
    """
    report = _new_report()
    found: dict[str, list[NDArray[Any]]] = {}
    for split, images in _with_all_splits(rows, report).items():
        found[split] = [image for image in images if image is not None]
        report[split]["read"], report[split]["empty"] = len(images), len(images) - len(found[split])
    found["train"] = _limited(found["train"], experiment.data.limit, report["train"])
    sizes: dict[tuple[int, ...], str] = {}  # size -> the first image of that size
    for split, images in found.items():
        if not images:
            raise ValueError(f"data.source: the {split} split of {experiment.data.source} has no images")
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, f"{split} image {i}")
    if len(sizes) > 1:
        some = ", ".join(f"{height}x{width} ({where})" for (height, width), where in list(sizes.items())[:3])
        raise ValueError(f"data.source: all images must have the same size, got {some}; resize them first")
    height, width = next(iter(sizes))
    largest = _largest(found["train"])
    if (count := len(found["validation"])) <= NEIGHBOURS:
        raise ValueError(
            f"data.source: {experiment.data.source} has {count} validation images, but judging samples needs more than "
            f"{NEIGHBOURS}; add images, or a validation split"
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
        raise ValueError(f"data.source: images must have different grey values >= 0, got {least} to {most}")
    return float(most)


def _new_report() -> Report:
    return {split: dict.fromkeys(("read", *LEFT_OUT), 0) for split in SPLITS} | {"notes": []}


def _with_all_splits(rows: Rows, report: Report) -> Rows:
    """Replace a missing validation or test split by a random part of train, always the same part."""
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
            report["notes"].append(f"no {split} split: {count:,} random examples of train are held out instead")
    return full


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
            counts = report[split]
            left = ", ".join(f"{counts[reason]} {reason.replace('_', ' ')}" for reason in LEFT_OUT if counts[reason])
            raise ValueError(
                f"data.source: no sentence of {experiment.data.source} is left for {split} ({left or 'no rows'}); "
                f"data.shortest is {experiment.data.shortest}, longest is {experiment.longest}"
            )
