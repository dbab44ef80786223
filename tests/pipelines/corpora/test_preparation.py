from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import ImageSpec
from pipelines.corpora.corpus import prepare
from tests.pipelines.corpora.files import TRAIN, decoded, image, lines, parquet, pictures, pixels, refused, text


def test_one_file_is_split_always_alike(tmp_path: Path) -> None:
    sentences = [f"w{i} w{i // 7} w{i % 7}" for i in range(100)]
    source = lines(tmp_path / "all.txt", sentences)
    corpus = prepare(text(source, vocabulary__size=200), tmp_path / "storage")
    splits = {split: decoded(corpus, split) for split in ("train", "validation", "test")}
    assert [len(part) for part in splits.values()] == [81, 10, 9]
    assert not set(splits["train"]) & (set(splits["validation"]) | set(splits["test"]))
    assert corpus.report["notes"] == [
        "no validation split: 10 random examples of train are held out instead",
        "no test split: 9 random examples of train are held out instead",
    ]
    again = prepare(text(source, vocabulary__size=200, seed=5), tmp_path / "elsewhere")
    assert again.fingerprint == corpus.fingerprint
    assert decoded(again, "validation") == splits["validation"]


def test_whatever_is_left_out_is_counted(tmp_path: Path) -> None:
    train = ["a b c", "A b  c", "x y", "d e f", "d", "a b c d e f g", "", "   ", "e f a", "b a c", "c b a"]
    lines(tmp_path / "train.txt", train)
    lines(tmp_path / "validation.txt", ["X Y", "t u v", "t u v"])
    lines(tmp_path / "test.txt", ["t u v", "d e f"])
    experiment = text(tmp_path, data__shortest=2, data__limit=3)
    report = prepare(experiment, tmp_path / "storage").report
    assert report["train"]["read"] == 11
    names = ("empty", "repeated", "in_other_split", "too_long", "too_short", "over_limit", "kept")
    assert {name: report["train"][name] for name in names} == dict(zip(names, (2, 1, 2, 1, 1, 1, 3), strict=True))
    assert {name: report["validation"][name] for name in names} == dict(zip(names, (0, 1, 1, 0, 0, 0, 1), strict=True))
    summary = prepare(experiment, tmp_path / "storage").summary()
    assert (
        "train: 3 examples (left out: 2 empty, 1 repeated, 2 in other split, 1 too long, 1 too short, 1 over limit)"
        in summary
    )


def test_repetitions_stay_where_they_are_wanted(tmp_path: Path) -> None:
    lines(tmp_path / "train.txt", ["a b", "a b", "c d"])
    lines(tmp_path / "validation.txt", ["a b"])
    lines(tmp_path / "test.txt", ["a b"])
    corpus = prepare(text(tmp_path, data__distinct=False), tmp_path / "storage")
    assert decoded(corpus, "train") == ["a b", "a b", "c d"]
    assert decoded(corpus, "validation") == ["a b"]


def test_punctuation_and_case_do_not_make_a_text_distinct(folder: Path, tmp_path: Path) -> None:
    lines(folder / "train.txt", [*TRAIN, "the dog runs here.", "THE DOG RUNS HERE ."])
    corpus = prepare(text(folder), tmp_path / "storage")
    assert corpus.report["train"]["repeated"] == 2
    cased = prepare(text(folder, vocabulary__lowercase=False), tmp_path / "storage")
    assert cased.report["train"]["repeated"] == 0


def test_bpe_counts_its_own_tokens(folder: Path, tmp_path: Path) -> None:
    lines(folder / "train.txt", [*TRAIN, "zqxj kvwz ."])
    for split in ("validation", "test"):
        lines(folder / f"{split}.txt", [f"the {split[0]} runs here ."])
    corpus = prepare(text(folder, longest=8, vocabulary__tokenizer="bpe", vocabulary__size=40), tmp_path / "storage")
    assert corpus.report["train"]["too_long"] >= 1
    store = corpus.store("train")
    assert isinstance(store, TokenStore)
    assert store.lengths.max() <= 8
    assert sum(corpus.report["train"][name] for name in ("too_long", "kept")) == 13


def test_the_limit_draws_from_everywhere_and_always_the_same(folder: Path, tmp_path: Path) -> None:
    few = decoded(prepare(text(folder, data__limit=4), tmp_path / "a"), "train")
    assert len(few) == 4
    assert few != [sentence.lower() for sentence in TRAIN[:4]]
    assert few == decoded(prepare(text(folder, data__limit=4), tmp_path / "b"), "train")


def test_blank_file(folder: Path, tmp_path: Path) -> None:
    (folder / "validation.txt").write_text("\n  \n")
    assert "is left for validation (2 empty)" in refused(text(folder), tmp_path)


def test_one_word(tmp_path: Path) -> None:
    source = lines(tmp_path / "train.txt", ["word", "word word", "word word word", "word word word word"])
    assert "different words; an autoencoder needs at least 2" in refused(text(source), tmp_path)


def test_no_sentence_left(tmp_path: Path) -> None:
    source = lines(tmp_path / "all.txt", [f"w{i} b c d e f g" for i in range(20)] + ["a"])
    message = refused(text(source, data__shortest=2), tmp_path)
    assert "no sentence of" in message
    assert message.endswith("data.shortest is 2, longest is 6")
    assert "too long" in message


def test_too_few_rows_to_split(tmp_path: Path) -> None:
    assert "no" in refused(text(lines(tmp_path / "train.txt", ["a b"])), tmp_path)


def grey(count: int, height: int = 3, width: int = 5) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_are_cut_at_half(mode: str, tmp_path: Path) -> None:
    images = grey(20)
    images[0, 0, :3] = (127, 128, 255)
    pictures(tmp_path / "source" / "train.parquet", images, lambda picture: picture.convert(mode))
    pictures(tmp_path / "source" / "validation.parquet", images[:7])
    pictures(tmp_path / "source" / "test.parquet", images[:6])
    corpus = prepare(image(tmp_path / "source"), tmp_path / "storage")
    assert corpus.spec == ImageSpec(3, 5)
    assert np.array_equal(pixels(corpus, "train"), images > 127)
    assert np.array_equal(pixels(corpus, "test"), images[:6] > 127)


@pytest.mark.parametrize("largest", [1, 16, 255, 1.0])
def test_arrays_are_cut_at_half_of_the_largest(largest: float, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, int(largest), (20, 4, 3), endpoint=True) * (largest / int(largest))
    values[0, 0, 0], values[0, 0, 1] = largest, 0
    parquet(tmp_path / "source" / "train.parquet", image=values.tolist())
    parquet(tmp_path / "source" / "test.parquet", image=values[:5].tolist())
    parquet(tmp_path / "source" / "validation.parquet", image=values[:7].tolist())
    corpus = prepare(image(tmp_path / "source"), tmp_path / "storage")
    assert np.array_equal(pixels(corpus, "train"), values >= largest / 2)


def test_images_without_validation_and_with_nulls(tmp_path: Path) -> None:
    images = grey(80)
    pictures(tmp_path / "train.parquet", [*images, None])
    corpus = prepare(image(tmp_path / "train.parquet", data__limit=10), tmp_path / "storage")
    counts = [
        sum(corpus.report[split][name] for split in ("train", "validation", "test")) for name in ("read", "empty")
    ]
    assert counts == [81, 1]
    assert corpus.report["train"]["kept"] == 10
    assert len(corpus.report["notes"]) == 2


def test_too_few_images_to_judge_samples_by(tmp_path: Path) -> None:
    pictures(tmp_path / "train.parquet", grey(40))
    message = refused(image(tmp_path / "train.parquet"), tmp_path)
    assert "has 4 validation images, but judging samples needs more than 5" in message


def test_images_of_two_sizes(tmp_path: Path) -> None:
    pictures(tmp_path / "train.parquet", [*grey(20), *grey(1, 4, 5)])
    message = refused(image(tmp_path / "train.parquet"), tmp_path)
    assert message.startswith("data.source: all images must have the same size, got 3x5 (train image 0)")
    assert "4x5" in message


def test_what_is_no_image(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", image=["a", "b", "c"])
    assert "row 0: must be an image or an array" in refused(image(tmp_path / "train.parquet"), tmp_path)
    parquet(tmp_path / "train.parquet", image=[[0, 1], [1, 0], [1, 1]])
    assert "row 0: must be an image or an array" in refused(image(tmp_path / "train.parquet"), tmp_path)
    parquet(tmp_path / "train.parquet", image=np.zeros((9, 2, 2)).tolist())
    assert "must have different grey values >= 0, got 0.0 to 0.0" in refused(
        image(tmp_path / "train.parquet"), tmp_path
    )
    pictures(tmp_path / "train.parquet", [image.astype(np.uint16) * 257 for image in grey(9)])
    assert "row 0: images must have 8 bits per channel, got mode I;16" in refused(
        image(tmp_path / "train.parquet"), tmp_path
    )
    parquet(tmp_path / "train.parquet", picture=[1])
    assert "data.columns must be among picture" in refused(image(tmp_path / "train.parquet"), tmp_path)
