"""Data sources for the tests to write, and what became of them to look at."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import numpy as np
import pytest

from arae_core.data.batches import ImageStore, TokenStore
from arae_core.settings.tree import with_settings
from pipelines.corpora.corpus import Corpus, prepare
from pipelines.experiment.settings import DataSettings, Experiment

TRAIN = [
    f"The {noun} {verb} {place} ."
    for noun in ("dog", "cat", "man")
    for verb in ("runs", "eats")
    for place in ("here", "there")
]
VALIDATION = ["The dog eats well .", "A bird sings ."]
TEST = ["The cat sings .", "A man eats ."]


def text(source: Path | str, **values: Any) -> Experiment:
    whole = Experiment(name="x", batch_size=2, longest=6, data=DataSettings(source=str(source), columns=("text",)))
    return with_settings(whole, {key.replace("__", "."): value for key, value in values.items()})


def image(source: Path | str, **values: Any) -> Experiment:
    whole = Experiment(name="x", kind="image", batch_size=2, data=DataSettings(source=str(source), columns=("image",)))
    return with_settings(whole, {key.replace("__", "."): value for key, value in values.items()})


def lines(path: Path, sentences: Sequence[str], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(sentence + "\n" for sentence in sentences), encoding=encoding)
    return path


def parquet(path: Path, **columns: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns).to_parquet(str(path))
    return path


def rows(path: Path, sentences: Sequence[str | None]) -> Path:
    """The sentences in the format that the path's ending names."""
    if path.suffix == ".txt":
        return lines(path, [sentence or "" for sentence in sentences])
    if path.suffix == ".parquet":
        return parquet(path, text=sentences, label=list(range(len(sentences))))
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("label", "text"), *enumerate(sentences)])
        return path
    objects = [{"text": sentence, "label": 0} for sentence in sentences]
    path.write_text("\n".join(map(json.dumps, objects)) if path.suffix == ".jsonl" else json.dumps(objects))
    return path


def decoded(corpus: Corpus, split: str) -> list[str]:
    store = corpus.store(split)
    assert isinstance(store, TokenStore)
    assert corpus.vocabulary is not None
    return corpus.vocabulary.decode(store.rows(range(len(store))))


def pixels(corpus: Corpus, split: str) -> np.ndarray[Any, Any]:
    store = corpus.store(split)
    assert isinstance(store, ImageStore)
    return np.asarray(store.pixels).reshape(-1, store.height, store.width)


def refused(experiment: Experiment, tmp_path: Path) -> str:
    """What the user is told."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the callers look at the message)
        prepare(experiment, tmp_path / "storage")
    data = tmp_path / "storage" / "data"
    assert not data.exists() or not list(data.iterdir()), "something half was left"
    assert "\n" not in str(error.value)
    return str(error.value)


def pictures(path: Path, images: Any, convert: Callable[[Any], Any] = lambda image: image) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image()})
    decoded_images = [None if pixels is None else convert(Image.fromarray(pixels)) for pixels in images]
    datasets.Dataset.from_dict({"image": decoded_images}, features=features).to_parquet(str(path))
    return path
