import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import ImageSpec, TextSpec
from arae_core.settings.tree import with_settings
from pipelines.corpora.corpus import Corpus, _digest, prepare
from pipelines.corpora.digits import digits
from pipelines.corpora.grammar import attributes
from pipelines.experiment.presets import preset
from tests.pipelines.corpora.files import TEST, TRAIN, VALIDATION, decoded, lines, parquet, pixels, text

ROOT = Path(__file__).resolve().parents[3]


def test_a_folder_becomes_stores_and_a_vocabulary(folder: Path, tmp_path: Path) -> None:
    corpus = prepare(text(folder), tmp_path / "storage")
    assert decoded(corpus, "train") == [sentence.lower() for sentence in TRAIN]
    assert decoded(corpus, "validation") == ["the dog eats <unk> .", "<unk> <unk> <unk> ."]
    assert corpus.vocabulary is not None
    assert corpus.spec == TextSpec(4 + 9, 0, 1, 2, 3) == corpus.vocabulary.spec  # of the training text's words alone
    assert corpus.report["validation"] == {
        **dict.fromkeys(
            ("empty", "unlabelled", "repeated", "in_other_split", "too_long", "too_short", "over_limit"), 0
        ),
        **{"read": 2, "kept": 2, "tokens": 9, "unknown": 4 / 9},
    }
    assert corpus.report["notes"] == []


def test_built_in_grammar(tmp_path: Path) -> None:
    corpus = prepare(with_settings(preset("grammar"), {"data.size": 500}), tmp_path)
    assert corpus.report["train"]["kept"] > 300
    assert corpus.report["train"]["unknown"] == 0
    larger = prepare(with_settings(preset("grammar"), {"data.size": 600}), tmp_path)
    assert larger.fingerprint != corpus.fingerprint


def test_built_in_grammar_with_an_attribute(tmp_path: Path) -> None:
    values = {"data.size": 500, "data.label": "sentiment", "data.classes": ("positive", "negative")}
    corpus = prepare(with_settings(preset("grammar"), values), tmp_path)
    store = corpus.store("train")
    assert isinstance(store, TokenStore) and store.labels is not None and isinstance(corpus.spec, TextSpec)
    assert corpus.spec.classes == ("positive", "negative")
    found = [attributes(sentence) for sentence in decoded(corpus, "train")]
    assert [a.sentiment for a in found if a] == [corpus.spec.classes[y] for y in store.labels]
    assert corpus.report["train"]["unlabelled"] > 50
    assert sum(corpus.report["train"]["classes"].values()) == corpus.report["train"]["kept"] == len(store)
    assert "positive" in corpus.summary()[0]
    assert corpus.load(corpus.folder).spec == corpus.spec


def test_built_in_digits(tmp_path: Path) -> None:
    corpus = prepare(preset("digits"), tmp_path)
    assert corpus.spec == ImageSpec(8, 8)
    assert pixels(corpus, "train").shape == (1297, 8, 8)
    assert corpus.vocabulary is None
    assert np.array_equal(pixels(corpus, "test"), digits()["test"])


def test_a_pretrained_tokenizer_is_part_of_the_fingerprint_by_content(folder: Path, tmp_path: Path) -> None:
    first = prepare(text(folder), tmp_path / "storage")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copyfile(first.folder / "vocabulary" / "tokenizer.json", tmp_path / name / "tokenizer.json")
    a = prepare(text(folder, vocabulary__tokenizer=str(tmp_path / "a")), tmp_path / "storage")
    b = prepare(text(folder, vocabulary__tokenizer=str(tmp_path / "b" / "tokenizer.json")), tmp_path / "storage")
    assert a.fingerprint == b.fingerprint != first.fingerprint
    assert decoded(a, "train") == decoded(first, "train")


def test_the_fingerprint_is_of_contents_and_settings_not_of_paths(folder: Path, tmp_path: Path) -> None:
    first = prepare(text(folder), tmp_path / "storage")
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert prepare(text(moved), tmp_path / "other").fingerprint == first.fingerprint
    assert (
        prepare(text(moved, seed=3, critic__steps=2, batch_size=4), tmp_path / "other").fingerprint == first.fingerprint
    )
    others = [
        prepare(text(moved, **values), tmp_path / "other").fingerprint
        for values in (
            {"longest": 5},
            {"data__shortest": 2},
            {"data__distinct": False},
            {"data__limit": 3},
            {"vocabulary__size": 9},
            {"vocabulary__lowercase": False},
            {"vocabulary__tokenizer": "spaces"},
        )
    ]
    with (moved / "train.txt").open("a") as file:
        file.write("the bird\n")
    others.append(prepare(text(moved), tmp_path / "other").fingerprint)
    assert len({first.fingerprint, *others}) == 9


def test_the_same_text_in_another_split_is_another_corpus(folder: Path, tmp_path: Path) -> None:
    first = prepare(text(folder), tmp_path / "storage")
    (folder / "test.txt").rename(folder / "swap")
    (folder / "validation.txt").rename(folder / "test.txt")
    (folder / "swap").rename(folder / "validation.txt")
    assert prepare(text(folder), tmp_path / "storage").fingerprint != first.fingerprint


def test_what_is_prepared_is_not_prepared_again(folder: Path, tmp_path: Path) -> None:
    first = prepare(text(folder), tmp_path / "storage")
    before = (first.folder / "corpus.json").stat().st_mtime_ns
    again = prepare(text(folder), tmp_path / "storage")
    assert (again.folder, again.spec, again.report) == (first.folder, first.spec, first.report)
    assert (again.folder / "corpus.json").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "storage" / "data").iterdir()] == [first.fingerprint]


def test_two_at_once(folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: prepare(text(folder), tmp_path / "storage"), range(2))
    assert first == second
    assert [path.name for path in (tmp_path / "storage" / "data").iterdir()] == [first.fingerprint]


def test_a_killed_preparation_leaves_nothing_half(folder: Path, tmp_path: Path) -> None:
    program = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "import tests.pipelines.corpora.files as t\n"
        "from pathlib import Path\n"
        "from arae_core.data.batches import TokenStore\n"
        "TokenStore.save = lambda self, folder: (folder.mkdir(parents=True), print(flush=True), time.sleep(60))\n"
        f"t.prepare(t.text({str(folder)!r}), Path({str(tmp_path / 'storage')!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(path.name.startswith(".partial-") for path in (tmp_path / "storage" / "data").iterdir())
    assert len(decoded(prepare(text(folder), tmp_path / "storage"), "train")) == 12


def test_a_batch_larger_than_the_data(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size must be <= the number of training examples \(12\), got 13"):
        prepare(text(folder, batch_size=13), tmp_path / "storage")
    assert prepare(text(folder, batch_size=12), tmp_path / "storage").report["train"]["kept"] == 12


def test_a_batch_smaller_than_the_classes(tmp_path: Path) -> None:
    one = with_settings(preset("grammar-sentiment"), {"batch_size": 1, "data.size": 300})
    with pytest.raises(ValueError, match=r"batch_size must be >= the number of classes \(2\), got 1"):
        prepare(one, tmp_path / "storage")


def test_storage_that_cannot_be_written_to(folder: Path, tmp_path: Path) -> None:
    file = lines(tmp_path / "file", ["not a folder"])
    with pytest.raises(ValueError, match=r"storage must be a writable folder, got .*file"):
        prepare(text(folder), file)


# Real data, where the tester has it


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Path:
    root = os.environ.get("ARAE_TEST_DATA")
    path = Path(root or "nowhere") / str(request.param)
    if not path.exists():
        pytest.skip(f"set ARAE_TEST_DATA to a folder that holds {request.param} (CONTRIBUTING.md, Tests)")
    return path


def assert_all_accounted_for(corpus: Corpus) -> None:
    """What was read was either kept, all of it now in the store, or left out for one reason."""
    reasons = ("empty", "unlabelled", "repeated", "in_other_split", "too_long", "too_short", "over_limit")
    for split in ("train", "validation", "test"):
        report = corpus.report[split]
        assert report["read"] == report["kept"] + sum(report[why] for why in reasons)
        assert len(corpus.store(split)) == report["kept"] > 5000


@pytest.mark.parametrize("real", ["snli"], indirect=True)
def test_snli(real: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    corpus = prepare(with_settings(preset("snli"), {"data.source": str(real)}), tmp_path)
    assert time.perf_counter() - start < 60
    assert_all_accounted_for(corpus)
    lengths = corpus.store("train").lengths  # type: ignore[union-attr]
    assert (lengths.min(), lengths.max()) == (3, 15)
    assert corpus.spec == TextSpec(11_000)


@pytest.mark.parametrize("real", ["yelp"], indirect=True)
def test_yelp(real: Path, tmp_path: Path) -> None:
    corpus = prepare(with_settings(preset("yelp"), {"data.source": str(real)}), tmp_path)
    assert corpus.spec.classes == ("negative", "positive")  # type: ignore[union-attr]
    assert_all_accounted_for(corpus)
    for split in ("train", "validation", "test"):
        assert sum(corpus.report[split]["classes"].values()) == corpus.report[split]["kept"]


@pytest.mark.parametrize("real", ["binarized_mnist"], indirect=True)
def test_binarized_mnist(real: Path, tmp_path: Path) -> None:
    corpus = prepare(with_settings(preset("mnist"), {"data.source": str(real), "data.limit": 1000}), tmp_path)
    assert corpus.spec == ImageSpec(28, 28)
    assert [corpus.report[split]["kept"] for split in ("train", "validation", "test")] == [1000, 10_000, 10_000]
    assert 0.12 < pixels(corpus, "train").mean() < 0.14


@pytest.mark.parametrize("real", ["mnist"], indirect=True)
def test_mnist(real: Path, tmp_path: Path) -> None:
    corpus = prepare(with_settings(preset("paper-mnist"), {"data.source": str(real)}), tmp_path)
    assert [corpus.report[split]["kept"] for split in ("train", "validation", "test")] == [54_000, 6_000, 10_000]


def test_the_label_and_the_classes_used_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    used = [
        ("tense", ()),
        ("sentiment", ()),
        ("sentiment", ("positive", "negative")),
        ("sentiment", ("negative", "positive")),
    ]
    found = {
        prepare(
            with_settings(preset("grammar"), {"data.size": 500, "data.label": label, "data.classes": classes}), tmp_path
        ).fingerprint
        for label, classes in used
    }
    assert len(found) == len(used)


def test_the_fingerprint_is_of_which_split_has_what(tmp_path: Path) -> None:
    found = set()
    for name, (validation, test) in (("one", (VALIDATION, TEST)), ("other", (TEST, VALIDATION))):
        for split, sentences in (("train", TRAIN), ("validation", validation), ("test", test)):
            lines(tmp_path / name / f"{split}.txt", sentences)
        found.add(prepare(text(tmp_path / name), tmp_path / "storage").fingerprint)
    assert len(found) == 2


def test_another_column_of_the_same_files_is_another_corpus(tmp_path: Path) -> None:
    """And not the one that was prepared of the first."""
    for split, sentences in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        parquet(tmp_path / f"{split}.parquet", text=sentences, said=[s.replace("cat", "bird") for s in sentences])
    first, other = (prepare(text(tmp_path, data__columns=(name,)), tmp_path / "storage") for name in ("text", "said"))
    assert first.fingerprint != other.fingerprint
    assert "the cat runs here ." in decoded(first, "train") and "the bird runs here ." in decoded(other, "train")


def test_a_digest_says_which_split_an_example_is_in() -> None:
    rows = {"train": ["a", "b"], "validation": ["c"], "test": []}
    others = ({**rows, "validation": [], "test": ["c"]}, {**rows, "train": ["a"], "validation": ["b", "c"]}, {**rows})
    assert [_digest(other) == _digest(rows) for other in others] == [False, False, True]


def test_a_summary_says_what_was_left_out_and_what_is_unknown(folder: Path, tmp_path: Path) -> None:
    """Of nine tokens four."""
    summary = prepare(text(folder, data__limit=7), tmp_path / "storage").summary()
    assert summary[0] == "train: 7 examples (left out: 5 over limit)"
    assert summary[1].startswith("validation: 2 examples, ") and "% unknown tokens" in summary[1]
    assert prepare(text(folder), tmp_path / "storage").summary()[1] == ("validation: 2 examples, 44.44% unknown tokens")
