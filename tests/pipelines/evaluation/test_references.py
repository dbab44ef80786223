"""Files with people's rewritings: whatever their format, the same is read."""

from pathlib import Path

import datasets  # type: ignore[import-untyped]
import pytest

from pipelines.evaluation.references import References, read_references
from pipelines.evaluation.transfer_metrics import bleu

ROWS = {
    "source": ["bad food .", "None", "good staff ."],
    "label": ["sad", "sad", "happy"],
    "reference_0": ["good food .", "all", "bad staff ."],
    "reference_1": ["fine food .", "some", "rude staff ."],
}
CLASSES = ("happy", "sad")


def read(folder: Path, rows: datasets.Dataset, kind: str) -> References:
    file = folder / f"people.{kind}"
    getattr(rows, f"to_{kind.removesuffix('l')}")(str(file))
    return read_references(file, None, CLASSES)


def test_every_format_says_the_same(tmp_path: Path) -> None:
    found = read(tmp_path, datasets.Dataset.from_dict(ROWS), "csv")
    assert (found.sentences, found.labels, found.references) == (
        ROWS["source"],
        ROWS["label"],
        [ROWS["reference_0"], ROWS["reference_1"]],
    )
    for kind in ("jsonl", "parquet"):
        assert read(tmp_path, datasets.Dataset.from_dict(ROWS), kind) == found


def test_class_labels_in_parquet_have_their_names(tmp_path: Path) -> None:
    """Here 0 is sad: numbers are those of the file's own list of names, where it has one, else the model's."""
    text = datasets.Value("string")
    features = {"source": text, "reference": text, "label": datasets.ClassLabel(names=["sad", "happy"])}
    rows = {"source": ["a", "b"], "reference": ["c", "d"], "label": [0, 1]}
    named = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    assert read(tmp_path, named, "parquet").labels == ["sad", "happy"]
    assert read(tmp_path, datasets.Dataset.from_dict(rows), "parquet").labels == ["happy", "sad"]


def test_columns_that_are_missing_or_hold_something_else(tmp_path: Path) -> None:
    for rows, message in (
        ({"label": ["sad"], "reference": ["a"]}, "must have a column source, it has label, reference"),
        ({"source": ["a"], "reference": ["a"]}, "must have a column label"),
        ({"source": ["a"], "label": ["sad"]}, "must have a column reference"),
        ({"source": [7], "label": ["sad"], "reference": ["a"]}, "'source' of .* must hold text, got int64"),
        (
            {"source": ["a"], "label": [0.5], "reference": ["a"]},
            "'label' of .* must hold class labels, .* got double",
        ),
        ({"source": ["a"], "label": ["glad"], "reference": ["a"]}, "label must be one of happy, sad, got 'glad'"),
    ):
        with pytest.raises(ValueError, match=message):
            read(tmp_path, datasets.Dataset.from_dict(rows), "parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_missing_rewriting_is_no_reference(kind: str, tmp_path: Path) -> None:
    rows = {
        **ROWS,
        "reference_0": ["good food .", None, "bad staff of this place ."],
        "reference_1": [None, "some", " "],
    }
    found = read(tmp_path, datasets.Dataset.from_dict(rows), kind)
    assert found.references == [["good food .", None, "bad staff of this place ."], [None, "some", None]]
    outputs = ["fine food .", "some more", "bad staff of this place , yes ."]
    single = [["good food .", "some", "bad staff of this place ."]]
    assert bleu(outputs, found.references) == bleu(outputs, single) > 0
    for column in ("reference_0", "source"):
        broken = {**rows, column: ["a", None, "b"], "reference_1": [None, None, "c"]}
        with pytest.raises(ValueError, match=f"row 2 has no {column.removesuffix('_0')}"):
            read(tmp_path, datasets.Dataset.from_dict(broken), kind)


def test_a_file_without_rows(tmp_path: Path) -> None:
    none = datasets.Dataset.from_dict(ROWS).select([])
    with pytest.raises(ValueError, match=r"--references: no rows in people\.parquet"):
        read(tmp_path, none, "parquet")
