"""Real files for everything that can be right or wrong with a data source."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.experiment.corpora import prepare
from pipelines.experiment.presets import preset
from tests.pipelines.experiment.files import TEST, TRAIN, VALIDATION, decoded, lines, parquet, refused, rows, text


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_reads_the_same(suffix: str, tmp_path: Path) -> None:
    odd = [*TRAIN, 'Say "none", none\u2028here .', "NA", "None", "null"]
    source = tmp_path / "source"
    source.mkdir()
    for split, sentences in (("train", odd), ("validation", VALIDATION), ("test", TEST)):
        rows(source / f"{split}{suffix}", sentences)
    corpus = prepare(text(source, longest=15), tmp_path / "storage")
    assert decoded(corpus, "train") == [*(s.lower() for s in TRAIN), 'say " none ", none here .', "na", "none", "null"]
    assert len(decoded(corpus, "test")) == 2


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("train-00000-of-00001", "dev", "test_all")])
def test_names_that_folders_use(names: Sequence[str], tmp_path: Path) -> None:
    for name, sentences in zip(names, (TRAIN, VALIDATION, TEST), strict=True):
        lines(tmp_path / "source" / "data" / f"{name}.txt", sentences)
    lines(tmp_path / "source" / "data" / "trainer.txt", ["not an example"])
    corpus = prepare(text(tmp_path / "source"), tmp_path / "storage")
    assert [corpus.report[split]["read"] for split in ("train", "validation", "test")] == [12, 2, 2]


def test_several_files_of_a_split_and_windows_lines(tmp_path: Path) -> None:
    lines(tmp_path / "source" / "train-0.txt", [sentence + "\r" for sentence in TRAIN[:5]])
    lines(tmp_path / "source" / "train-1.txt", TRAIN[5:])
    lines(tmp_path / "source" / "test.txt", TEST)
    lines(tmp_path / "source" / "validation.txt", VALIDATION)
    corpus = prepare(text(tmp_path / "source"), tmp_path / "storage")
    assert decoded(corpus, "train") == [sentence.lower() for sentence in TRAIN]


def test_columns_are_sentences_of_their_own(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", premise=["a b", "c d", None], label=[0, 1, 2], hypothesis=["e f", "", "g h"])
    parquet(tmp_path / "validation.parquet", premise=["a c"], hypothesis=["a d"])
    parquet(tmp_path / "test.parquet", premise=["b c"], hypothesis=["b d"])
    corpus = prepare(text(tmp_path, data__columns=("premise", "hypothesis")), tmp_path / "storage")
    assert decoded(corpus, "train") == ["a b", "e f", "c d", "g h"]
    assert corpus.report["train"]["empty"] == 2
    assert corpus.report["train"]["read"] == 6


def test_missing_column(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", premise=["a b"], label=[0])
    message = refused(text(tmp_path), tmp_path)
    assert message.startswith("data.columns must be among premise, label, the columns of ")
    assert message.endswith("(train), got 'text'")


def test_a_column_of_numbers(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", text=[1, 2])
    assert "(train) must hold text, it holds int64" in refused(text(tmp_path), tmp_path)


def test_empty_file(folder: Path, tmp_path: Path) -> None:
    (folder / "validation.txt").write_text("")
    assert refused(text(folder), tmp_path) == f"data.source: {folder / 'validation.txt'} is empty"


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_not_utf8(suffix: str, tmp_path: Path) -> None:
    path = lines(tmp_path / f"train{suffix}", ["text", "fine", "caf\u00e9"], encoding="latin1")
    assert f"{path}, line 3 is not UTF-8 (byte 0xe9)" in refused(text(tmp_path), tmp_path)


def test_broken_files(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a b"}\n{"text": \n')
    assert "train.jsonl cannot be read as json" in refused(text(tmp_path / "train.jsonl"), tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 this is not one")
    assert "train.parquet cannot be read as parquet" in refused(text(tmp_path / "train.parquet"), tmp_path)
    (tmp_path / "train.csv").write_text('text\n"a b\n')
    assert "train.csv cannot be read as csv" in refused(text(tmp_path / "train.csv"), tmp_path)


def test_no_such_place(tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere", "./nowhere", "nowhere.txt", "a/b/c"):
        message = refused(text(source), tmp_path)
        assert message.startswith(f"data.source: there is no file or folder {str(source)!r}; point --data.source at ")
    assert "must be a file that ends in .parquet," in refused(text(lines(tmp_path / "train.tsv", TRAIN)), tmp_path)


def test_a_folder_without_training_files(tmp_path: Path) -> None:
    lines(tmp_path / "source" / "test.txt", TEST)
    assert "has no train file (.parquet, .jsonl, .json, .csv or .txt); it holds test.txt" in refused(
        text(tmp_path / "source"), tmp_path
    )


def test_two_formats_for_a_split(folder: Path, tmp_path: Path) -> None:
    rows(folder / "train.csv", TRAIN)
    assert "has train.csv, train.txt for train; keep files of one format" in refused(text(folder), tmp_path)


def test_a_name_on_the_hub_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    message = refused(preset("snli"), tmp_path)
    assert message.startswith(
        "data.source: 'stanfordnlp/snli' is neither a file or folder here nor a data set that can be had from the hub "
        "(which cannot be reached, and it is not in the cache); point --data.source at a folder with train, "
    )
    assert time.perf_counter() - start < 10
