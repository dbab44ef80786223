"""Tables as people have them: what stands there is what is read, and a row that does not fit is refused by its line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from pipelines.corpora.sources import hub_rows
from pipelines.corpora.tables import Columns, Rows, column_names, read_columns

MANY = 10_007
"""More rows than libraries guess the type of a column from."""
BOTH = Columns(("text",), "label")


def read(path: Path, content: str, columns: Columns = BOTH) -> Rows:
    path.write_text(content, encoding="utf-8", newline="")
    return read_columns([path], columns)


def csv_of(rows: Sequence[str], header: str = "text,label") -> str:
    return "".join(f"{row}\n" for row in (header, *rows))


def test_csv_values_are_read_as_written(tmp_path: Path) -> None:
    rows = [f"{i},0" for i in range(MANY)] + ["0010499.50,01", "1e3,TRUE", "NA,n/a", '"a, ""b""\nc",1.0', "x, "]
    found = read(tmp_path / "a.csv", csv_of(rows))
    assert found.texts["text"][MANY:] == ["0010499.50", "1e3", "NA", 'a, "b"\nc', "x"]
    assert found.labels[MANY:] == ["01", "TRUE", "n/a", "1", None]


def test_a_column_nobody_asks_for_may_hold_anything(tmp_path: Path) -> None:
    rows = [f"w{i},{i},0" for i in range(MANY)] + ["x,n/a,1"]
    found = read(tmp_path / "a.csv", csv_of(rows, "text,stars,label"))
    assert found.texts["text"][-1] == "x" and found.labels[-1] == "1"
    objects = [{"text": "a", "stars": 1, "label": None}] * MANY + [{"text": "b", "stars": {"n": []}, "late": 1}]
    found = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, objects)))
    assert found.texts["text"][-1] == "b" and found.labels == [None] * (MANY + 1)


def test_a_label_may_be_missing_first_and_come_late(tmp_path: Path) -> None:
    objects = [{"text": "a", "label": None}] * MANY + [{"text": "b", "label": "x"}, {"text": "c", "label": 7}, {}]
    found = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, objects)))
    assert found.labels[MANY - 1 :] == [None, "x", "7", None] and found.texts["text"][MANY:] == ["b", "c", None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\na b,0,\n", "a.csv, line 2 has 3 fields, but the header has 2; a field that contains"),
        ("a.csv", 'text,label\n"a\nb",0\n\nwell, so,1\n', "a.csv, line 5 has 3 fields"),
        ("a.csv", "text,label\na b\n", "a.csv, line 2 has 1 fields"),
        ("a.csv", 'text,label\na,0\n"b,1\nc,0\n', "a.csv, line 3 cannot be read as CSV: unexpected end of data"),
        ("a.csv", "text,label,text\na,0,b\n", "a.csv has 2 columns named 'text'"),
        (
            "a.jsonl",
            '{"text": "a"}\n\n{"text": 5}\n',
            "data.columns: 'text' of .*a.jsonl, line 3 must hold text, got a n",
        ),
        ("a.jsonl", '{"text": "a", "label": 0.5}\n', "data.label: 'label' of .*a.jsonl, line 1 must be a class label"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "a.jsonl, line 2 must be an object"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": "\\ud800"}\n',
            "a.jsonl, line 2 cannot be read as JSON: an escape is half",
        ),
        ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl, line 1 cannot be read as JSON"),
        ("a.jsonl", '{"text": "a"}\n', "data.label must be among text, the columns of .*a.jsonl, got 'label'"),
        ("a.json", '[{"text": "a", "label": 0},\n {"text": "b",]', "a.json cannot be read as JSON: .* line 2, column"),
        ("a.json", '{"rows": 5}\n', "data.columns must be among rows"),
        ("a.json", '{"text": ["a", "b"], "label": [0]}', "a.json: the columns must have equally many values"),
        ("a.json", '[{"text": "a"}, 7]', "a.json, row 2 must be an object"),
    ],
)
def test_what_does_not_fit_is_refused_by_file_and_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name, content)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_json_is_lines_a_list_or_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "a", "label": True}, {"label": 1, "text": None}]
    columns = {name: [row[name] for row in rows] for name in ("label", "text")}
    expected = Rows({"text": ["a", None]}, ["True", "1"])
    lines = "\n".join(map(json.dumps, rows))
    for content in (lines, json.dumps(rows), json.dumps(rows, indent=1), json.dumps(columns)):
        assert read(tmp_path / "a.json", content) == expected
    assert column_names([tmp_path / "a.json"]) == ["label", "text"]


def test_files_of_a_split_may_have_their_columns_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,0\n")
    (tmp_path / "b.csv").write_text("label,more,text\n1,,b\n")
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert read_columns(paths, BOTH) == Rows({"text": ["a", "b"]}, ["0", "1"])
    assert column_names(paths) == ["text", "label", "more"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_and_every_line_end(end: str, mark: str, tmp_path: Path) -> None:
    for name, rows in (
        ("a.csv", ["text,label", "a b,x", "c\u2028d,y"]),
        (
            "a.jsonl",
            [json.dumps({"text": t, "label": y}, ensure_ascii=False) for t, y in (("a b", "x"), ("c\u2028d", "y"))],
        ),
    ):
        assert read(tmp_path / name, mark + end.join(rows) + end) == Rows({"text": ["a b", "c\u2028d"]}, ["x", "y"])
    found = read(tmp_path / "a.txt", mark + end.join(["a b", "", "c"]), Columns(("text",)))
    assert found.texts["text"] == ["a b", "", "c"]


TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_type_of_text_in_parquet(kind: Any, tmp_path: Path) -> None:
    values = ["b", None, "a"]
    table = pa.table(
        {"text": pa.array(values).cast(kind), "label": pa.array(values).cast(kind), "more": [[1], [], None]}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    assert read_columns([tmp_path / "a.parquet"], BOTH) == Rows({"text": values}, values)


def test_class_labels_have_their_names_from_a_file_and_from_the_hub(tmp_path: Path) -> None:
    text = datasets.Value("string")
    features = datasets.Features({"text": text, "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", None], "label": [1, -1, 0]}, features=features)
    rows.to_parquet(str(tmp_path / "a.parquet"))
    expected = Rows({"text": ["a", "b", None]}, ["yes", None, "no"])
    assert read_columns([tmp_path / "a.parquet"], BOTH) == hub_rows(rows, BOTH, "it") == expected
