"""Real files for everything that can be right or wrong with a data source."""

import codecs
import logging
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pytest

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from pipelines.corpora.corpus import prepare
from pipelines.experiment.presets import preset
from tests.pipelines.corpora.files import TEST, TRAIN, VALIDATION, decoded, image, lines, parquet, refused, rows, text


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
    assert message.endswith("train.parquet, got 'text'")


def test_a_column_of_numbers(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", text=[1, 2])
    assert "train.parquet must hold text, got int64" in refused(text(tmp_path), tmp_path)


def test_empty_file(folder: Path, tmp_path: Path) -> None:
    (folder / "validation.txt").write_text("")
    assert refused(text(folder), tmp_path) == f"data.source: {folder / 'validation.txt'} is empty"


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_not_utf8(suffix: str, tmp_path: Path) -> None:
    path = lines(tmp_path / f"train{suffix}", ["text", "fine", "caf\u00e9"], encoding="latin1")
    assert f"{path}, line 3 is not UTF-8 (byte 0xe9)" in refused(text(tmp_path), tmp_path)


def test_utf16_is_named_with_a_command_that_runs(tmp_path: Path) -> None:
    folder = tmp_path / "of excel"
    folder.mkdir()
    path = lines(folder / "train.csv", ["text", "caf\u00e9", "fine"], encoding="utf-16")
    message = refused(text(folder), tmp_path)
    command = message.split("for example: ")[1]
    assert command == f"iconv -f utf-16 -t utf-8 '{path}'"
    done = subprocess.run(shlex.split(command), capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == ["text", "caf\u00e9", "fine"]


def test_the_column_of_a_text_file_is_named(tmp_path: Path) -> None:
    lines(tmp_path / "train.txt", ["a b"] * 30)
    message = refused(text(tmp_path, data__columns=("premise",)), tmp_path)
    assert message.endswith("got 'premise'; for a .txt file: --data.columns text")


def test_broken_files(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a b"}\n{"text": \n')
    assert "train.jsonl, line 2 cannot be read as JSON: " in refused(text(tmp_path / "train.jsonl"), tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 this is not one")
    assert "train.parquet cannot be read as Parquet: " in refused(text(tmp_path / "train.parquet"), tmp_path)
    (tmp_path / "train.csv").write_text('text\n"a b\n')
    assert "train.csv, line 2 cannot be read as CSV: " in refused(text(tmp_path / "train.csv"), tmp_path)


def test_a_file_without_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\n")
    assert refused(text(tmp_path / "train.csv"), tmp_path) == "data.source: no rows in train.csv"
    table = datasets.Dataset.from_dict({"text": []}, features=datasets.Features({"text": datasets.Value("string")}))
    for name in ("train-0", "train-1"):
        table.to_parquet(str(tmp_path / "empty" / f"{name}.parquet"))
    message = refused(text(tmp_path / "empty"), tmp_path)
    assert message == "data.source: no rows in train-0.parquet, train-1.parquet"


def test_what_cannot_be_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The library that reads images would log it as well."""
    (tmp_path / "train.parquet").write_bytes(b"PAR1 this is not one")
    logger = logging.getLogger("datasets")
    logger.addHandler(caplog.handler)
    try:
        assert "train.parquet cannot be read as parquet" in refused(image(tmp_path / "train.parquet"), tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    name = 300 * "a"
    assert f"data.source: {name} cannot be read (File name too long)" in refused(text(name), tmp_path)


def test_no_such_place(tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere", "./nowhere", "nowhere.txt", "a/b/c"):
        message = refused(text(source), tmp_path)
        assert message.startswith(f"data.source: no such file or folder: {str(source)!r}; point --data.source at ")
    assert "must be a file with the suffix .parquet," in refused(text(lines(tmp_path / "train.tsv", TRAIN)), tmp_path)


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
        "data.source: 'stanfordnlp/snli' is not a file or folder, and cannot be loaded from the hub "
        "(the hub cannot be reached"
    )
    assert time.perf_counter() - start < 10


LABELS: list[list[Any]] = [["n", "p"] * 6, ["n", "p"], ["p", "n"]]


def labelled(tmp_path: Path, values: list[list[Any]], feature: Any = None) -> Path:
    for name, sentences, labels in zip(("train", "validation", "test"), (TRAIN, VALIDATION, TEST), values, strict=True):
        features = datasets.Features({"text": datasets.Value("string"), "y": feature}) if feature else None
        table = datasets.Dataset.from_dict({"text": sentences, "y": labels}, features=features)
        (tmp_path / "data").mkdir(exist_ok=True)
        table.to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("values", "feature", "classes"),
    [
        (LABELS, None, ("n", "p")),
        (
            [[int(v == "p") for v in part] for part in LABELS],
            datasets.ClassLabel(names=["zero", "one"]),
            ("one", "zero"),
        ),
        ([[3 + (v == "p") for v in part] for part in LABELS], None, ("3", "4")),
        ([[v == "p" for v in part] for part in LABELS], None, ("False", "True")),
    ],
)
def test_a_label_is_a_class_a_word_or_a_number(
    values: list[list[Any]], feature: Any, classes: tuple[str, ...], tmp_path: Path
) -> None:
    corpus = prepare(text(labelled(tmp_path, values, feature), data__label="y"), tmp_path / "storage")
    store = corpus.store("train")
    assert isinstance(store, TokenStore) and store.labels is not None and isinstance(corpus.spec, TextSpec)
    assert corpus.spec.classes == classes
    first = int(classes == ("one", "zero"))
    assert store.labels.tolist() == [first, 1 - first] * 6
    unlabelled = prepare(text(tmp_path / "data"), tmp_path / "storage")
    assert unlabelled.fingerprint != corpus.fingerprint and unlabelled.spec.classes == ()  # type: ignore[union-attr]


def test_sentences_without_a_class_are_counted(tmp_path: Path) -> None:
    values: list[list[Any]] = [["n", "p", None, "q"] * 3, ["n", "p"], ["q", None]]
    source = labelled(tmp_path, values)
    message = refused(text(source, data__label="y", data__classes=("p", "n")), tmp_path)
    assert "no sentence of" in message and "left for test (2 unlabelled)" in message
    source = labelled(tmp_path, [values[0], values[1], ["p", None]])
    report = prepare(text(source, data__label="y", data__classes=("p", "n")), tmp_path / "storage").report
    assert (report["train"]["unlabelled"], report["test"]["unlabelled"]) == (6, 1)
    assert report["train"]["classes"] == {"p": 3, "n": 3}


def test_a_blank_is_no_class(tmp_path: Path) -> None:
    source = labelled(tmp_path, [["n", "p", " "] * 4, ["n", "p"], ["p", ""]])
    corpus = prepare(text(source, data__label="y"), tmp_path / "storage")
    assert isinstance(corpus.spec, TextSpec) and corpus.spec.classes == ("n", "p")
    assert (corpus.report["train"]["unlabelled"], corpus.report["test"]["unlabelled"]) == (4, 1)


def test_whole_numbers_some_of_which_are_missing(tmp_path: Path) -> None:
    source = labelled(tmp_path, [[0.0, 1.0, None] * 4, [0.0, 1.0], [1.0, float("nan")]])
    corpus = prepare(text(source, data__label="y"), tmp_path / "storage")
    assert isinstance(corpus.spec, TextSpec) and corpus.spec.classes == ("0", "1")
    assert (corpus.report["train"]["unlabelled"], corpus.report["test"]["unlabelled"]) == (4, 1)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (LABELS, {"data__label": "z"}, "data.label must be among text, y"),
        (
            LABELS,
            {"data__label": "y", "data__classes": ("n", "m")},
            "data.classes must be among n, p, the values of 'y'",
        ),
        ([["n"] * 12, ["n", "n"], ["n", "n"]], {"data__label": "y"}, "'y' must have two or more values"),
        ([[0.5] * 12, [0.5] * 2, [0.5] * 2], {"data__label": "y"}, "words or whole numbers, got double"),
    ],
)
def test_labels_that_cannot_be_used(
    values: list[list[Any]], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refused(text(labelled(tmp_path, values), **settings), tmp_path)


def test_a_class_label_that_is_missing_is_no_class(tmp_path: Path) -> None:
    """-1, as in SNLI."""
    names = datasets.ClassLabel(names=["zero", "one"])
    source = labelled(tmp_path, [[0, 1, -1] * 4, [0, 1], [1, -1]], names)
    corpus = prepare(text(source, data__label="y"), tmp_path / "storage")
    assert isinstance(corpus.spec, TextSpec) and corpus.spec.classes == ("one", "zero")
    assert (corpus.report["train"]["unlabelled"], corpus.report["test"]["unlabelled"]) == (4, 1)


@pytest.mark.parametrize("values", [[[0.5, 1.0] * 6, [0.5, 1.0], [1.0, 0.5]], [[0.0, 1.0] * 6, [0.0, 1.0], [1.5, 0.0]]])
def test_numbers_of_which_one_is_not_whole_are_no_classes(values: list[list[Any]], tmp_path: Path) -> None:
    message = refused(text(labelled(tmp_path, values), data__label="y"), tmp_path)
    assert "'y' of " in message and "words or whole numbers, got double" in message


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf16_in_either_order_of_bytes_is_named(order: str, tmp_path: Path) -> None:
    mark = codecs.BOM_UTF16_LE if order == "le" else codecs.BOM_UTF16_BE
    (tmp_path / "train.csv").write_bytes(mark + "text\na b\n".encode(f"utf-16-{order}"))
    assert "; convert it, for example: iconv -f utf-16 -t utf-8 " in refused(text(tmp_path / "train.csv"), tmp_path)
