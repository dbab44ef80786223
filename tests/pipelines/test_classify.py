"""classify.py and predict.py end to end: the table of accuracies, resuming it, and the best classifier."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arae_core.classification import SentenceClassifier
from arae_core.data.labelled import load_labelled
from arae_core.settings.tree import flatten, with_settings
from pipelines import classify, predict
from pipelines.classification import semi_supervised
from pipelines.classification.classifier_trial import (
    ClassifierPlan,
    ClassifierTrial,
    autoencoder_experiment,
    result_file,
)
from pipelines.corpora.corpus import prepare, prepare_labelled
from pipelines.experiment.presets import preset
from pipelines.experiment.settings import Classification
from pipelines.runtime import cluster
from pipelines.runtime.cluster import Room
from pipelines.runtime.run_record import write_record
from tests.pipelines.small import SMALL
from tests.pipelines.test_model_commands import Typed, result, typed
from tests.pipelines.test_train import command, spelled

__all__ = ["typed"]

TINY: dict[str, Any] = {
    **{name: value for name, value in SMALL.items() if name != "samples"},
    "iterations": 6,
    "evaluate_every": 3,
    "head.hidden": (7,),
    "head.batch_size": 11,
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


def words(storage: Path, *more: object, **changes: Any) -> list[str]:
    shared = ["--storage", str(storage), "--tracking-uri", f"sqlite:///{storage / 'mlflow.db'}"]
    return [*spelled({**TINY, **changes}), *shared, *map(str, more)]


Classify = Callable[..., tuple[int, str, str]]


@pytest.fixture
def classified(
    room: Room, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Classify:
    """classified(*words, **settings): exit status, stdout and stderr of classify.py, in the tests' cluster."""

    def call(*more: object, **changes: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(cluster, "running", lambda: nullcontext(room))
        capsys.readouterr()
        return classify.main(words(storage, *more, **changes)), *capsys.readouterr()

    return call


def test_a_table_resumes_and_its_best_classifier_predicts(
    classified: Classify, typed: Typed, storage: Path, tmp_path: Path
) -> None:
    asked = ("--labels", "9,30", "--seeds", 2, "--run-name", "first", "--json")
    status, out, err = classified(*asked)
    assert status == 0, err
    assert "autoencoder of arae, seed 1: ready" in out
    found = result(out)
    rows = {(row["method"], row["labels"], row["seed"]): row for row in found["rows"]}
    assert set(rows) == {(m, n, s) for m in ("supervised", "ae", "arae") for n in (9, 30) for s in (0, 1)}
    assert all(row["step"] in (3, 6) and 0 <= row["test"] <= 100 for row in rows.values())
    for row in found["summary"]:
        tests = [each["test"] for key, each in rows.items() if key[:2] == (row["method"], row["labels"])]
        assert row["test"] == pytest.approx(np.mean(tests)) and row["spread"] == pytest.approx(np.std(tests, ddof=1))
    folder = storage / "classifications" / "first"
    assert np.asarray(Image.open(folder / "accuracy.png").convert("L")).std() > 10
    assert [path.name for path in (folder / "classifiers").iterdir()] == [Path(found["best"]).name]
    best = max(found["rows"], key=lambda row: row["validation"])
    classifier = SentenceClassifier.load(Path(found["best"]))
    experiment = with_settings(preset("grammar-entailment"), TINY)
    assert isinstance(experiment, Classification)
    labelled, _ = prepare_labelled(experiment, prepare(experiment.without_labels, storage), storage)
    assert 100 * classifier.accuracy(load_labelled(labelled / "test")) == pytest.approx(best["test"])

    (folder / "results" / "arae-30-1.json").unlink()
    before = {file: file.stat().st_mtime_ns for file in (folder / "results").iterdir()}
    status, out, _ = classified(*asked)
    assert status == 0 and "resuming run first" in out
    assert all(file.stat().st_mtime_ns == old for file, old in before.items())
    again = {(row["method"], row["labels"], row["seed"]): row for row in result(out)["rows"]}
    for key in rows:
        assert again[key]["test"] == rows[key]["test"]

    long = " ".join(["zebra", *14 * ["very"], "sad"])
    (tmp_path / "pairs.txt").write_text(f"a sad man sleeps .\ta man sleeps .\n{long}\tthe cat\n")
    status, out, err = typed(predict, "--model", found["best"], "--input", "pairs.txt", "--pairs", "--json")
    assert status == 0
    assert "1 of 4 sentences have more than 15 tokens" in err
    assert "tokens are not in the model's vocabulary" in err
    lines = out.splitlines()
    assert lines[0].startswith("a sad man sleeps .\ta man sleeps .\t") and len(lines) == 3
    assert result(out)["classes"] == [line.split("\t")[2] for line in lines[:2]]
    assert set(result(out)["classes"]) <= {"entailment", "neutral", "contradiction"}
    for text, message in (
        ("one sentence\n", "line 1 must have 2 sentences separated by a tab, got 'one sentence'"),
        ("a\tb\na\t \n", "line 2 must have 2 sentences"),
        (70 * "x", f"got '{60 * 'x'}...'"),
    ):
        (tmp_path / "pairs.txt").write_text(text)
        status, _, err = typed(predict, "--model", found["best"], "--input", "pairs.txt")
        assert status == 2 and message in err and err.count("\n") == 1
    status, _, err = typed(predict, "--model", folder, "--input", "pairs.txt")
    assert status == 2 and "is not a classifier" in err

    status, _, err = classified(*asked, **{"head.hidden": (5,)})
    assert status == 2 and "run first exists with other settings: head.hidden was [7] and is [5]" in err


def test_sentences_instead_of_pairs(classified: Classify) -> None:
    asked = ("--config", "grammar-sentiment", "--labels", 10, "--methods", "supervised", "--json")
    status, out, err = classified(*asked)
    assert status == 0, err
    (row,) = result(out)["rows"]
    classifier = SentenceClassifier.load(Path(result(out)["best"]))
    assert row["labels"] == 10 and classifier.head.sentences == 1 and classifier.classes == ("negative", "positive")
    assert len(classifier.classify([["a sad man sleeps ."]])) == 1


def test_pairs_of_a_file(tmp_path: Path) -> None:
    """Rows without a class or a text, repeated and held-out ones are left out and counted; a long one is shortened."""
    rows: dict[str, list[tuple[str, str, str | None]]] = {
        "train": [
            ("a b", "c", "yes"),
            ("d", "e " * 9, "no"),
            ("e", "f e", "no"),
            ("", "f", "yes"),
            ("g", "h", None),
            ("i", "j", "no"),
        ]
        * 2
        + [("V", "w", "no"), ("W ", "x", "yes"), ("w", "v", "yes")],
        "validation": [("v", "w", "yes"), ("w", " X", "no"), ("v", "w", "yes")],
        "test": [("w", "x", "no"), ("x", "y", "maybe")],
    }
    for split, examples in rows.items():
        lines = [json.dumps({"one": one, "two": two, "label": label}) for one, two, label in examples]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    changes = {**TINY, "data.source": str(tmp_path), "data.columns": ("one", "two"), "data.label": "label"}
    experiment = Classification.of(with_settings(preset("snli-entailment"), changes | {"batch_size": 3, "longest": 5}))
    experiment = with_settings(experiment, {"data.shortest": 1})
    corpus = prepare(experiment.without_labels, tmp_path / "storage")
    folder, report = prepare_labelled(experiment, corpus, tmp_path / "storage")
    assert report["sentences"] == 2
    counts = ("left_out", "repeated", "in_other_split", "shortened")
    assert [report["train"]["classes"], *map(report["train"].get, counts)] == [{"no": 3, "yes": 2}, 4, 4, 2, 1]
    assert [report["validation"]["classes"], *map(report["validation"].get, counts)] == [
        {"no": 0, "yes": 1},
        0,
        1,
        1,
        0,
    ]
    assert [report["test"]["classes"], *map(report["test"].get, counts)] == [{"no": 1, "yes": 0}, 1, 0, 0, 0]
    as_they_are = with_settings(experiment, {"data.distinct": False})
    whole = prepare_labelled(as_they_are, corpus, tmp_path / "storage")[1]
    assert whole["train"]["classes"] == {"no": 7, "yes": 4} and not whole["train"]["in_other_split"]
    train = load_labelled(folder / "train")
    assert corpus.vocabulary is not None
    assert corpus.vocabulary.decode(train.sentences.rows(range(4))) == ["a b", "c", "d", "e e e e e"]
    assert prepare_labelled(experiment, corpus, tmp_path / "storage")[0] == folder
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(ValueError, match="has no test split; pairs need all three"):
        prepare_labelled(experiment, prepare(experiment.without_labels, tmp_path / "storage"), tmp_path / "storage")


def test_mean_accuracies_and_spreads() -> None:
    rows = [{"method": "ae", "labels": 5, "seed": s, "test": t, "validation": 50.0} for s, t in enumerate((1, 2, 6))]
    rows.append({"method": "ae", "labels": 7, "seed": 0, "test": 4, "validation": 60.0})
    rows.append({"method": "arae", "labels": 7, "seed": 0, "diverged": "not finite"})
    first, second = semi_supervised.mean_accuracies(rows)
    assert (first["test"], first["spread"], first["seeds"]) == (3.0, pytest.approx(np.sqrt(7)), 3)
    assert (second["test"], second["spread"]) == (4.0, None)


def test_the_best_classifier_of_all_tables_is_kept(tmp_path: Path) -> None:
    assert semi_supervised.keep_best(tmp_path) is None
    for name, figures in (
        ("ae-7-0", {"validation": 70.0}),
        ("ae-5-0", {"validation": 80.0}),
        ("arae-5-0", {"diverged": "x"}),
    ):
        write_record(tmp_path / "results" / f"{name}.json", figures)
        (tmp_path / "classifiers" / name).mkdir(parents=True)
    assert semi_supervised.keep_best(tmp_path) == tmp_path / "classifiers" / "ae-5-0"
    # a smaller table under the same name: its results exist, its classifiers were deleted
    assert semi_supervised.keep_best(tmp_path) == tmp_path / "classifiers" / "ae-5-0"
    assert [path.name for path in (tmp_path / "classifiers").iterdir()] == ["ae-5-0"]


def test_only_arae_trains_a_critic() -> None:
    experiment = preset("snli-entailment")
    assert isinstance(experiment, Classification)
    plain = autoencoder_experiment(experiment, "ae", 3)
    regularized = autoencoder_experiment(experiment, "arae", 3)
    assert not plain.adversarial and regularized.adversarial
    assert plain.seed == regularized.seed == 3 and plain.data.label == ""
    assert ClassifierTrial("ae", 30, 3).name == "ae-30-3"


def test_an_autoencoder_that_diverges_is_reported(classified: Classify) -> None:
    rates: dict[str, Any] = {f"{part}.learning_rate": 1e300 for part in ("encoder", "decoder")}
    rates |= {f"{part}.optimizer": "sgd" for part in ("encoder", "decoder")}
    asked = ("--labels", 9, "--methods", "ae", "--max-failures", 0, "--gradient-clip", 0)
    status, _, err = classified(*asked, **rates)
    assert status == 1 and "error: ae-0: " in err and "not finite" in err and "Lower the learning rates" in err


@pytest.mark.slow
def test_a_killed_driver_resumes(storage: Path, tracking_uri: str) -> None:
    """After SIGKILL, the same command trains the missing classifiers only."""
    asked = command("classify.py", storage, tracking_uri, "--labels", "9,30", "--run-name", "killed")
    asked = [word for i, word in enumerate(asked) if "--samples" not in (word, asked[i - 1])]
    results = storage / "classifications" / "killed" / "results"
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(results.glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {file: file.stat().st_mtime_ns for file in results.glob("*.json")}
    out = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    assert all(file.stat().st_mtime_ns == before for file, before in done.items())
    assert len(result(out)["rows"]) == 6 and len(list(results.glob("*.json"))) == 6


def test_classifiers_share_a_machine_and_take_one_cpu_of_a_cluster() -> None:
    experiment = preset("grammar-entailment")
    private, joined = (Room(13, 0, 13, 0, attached=attached) for attached in (False, True))
    shares = [semi_supervised.classifier_resources(private, cells, experiment) for cells in (0, 1, 3, 5, 100)]
    assert [(share.workers, share.cpus, share.gpus) for share in shares] == [(1, n, 0) for n in (13, 13, 4, 2, 1)]
    assert semi_supervised.classifier_resources(joined, 3, experiment).cpus == 1
    with_gpus = semi_supervised.classifier_resources(Room(13, 2, 13, 2, attached=False), 5, experiment)
    assert (with_gpus.cpus, with_gpus.gpus) == (6, 1)


def test_a_finished_table_starts_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks reserve a classifier's resources, and Ray retries them `max_failures` times."""
    import ray

    from pipelines.runtime import progress_actor

    settings = flatten(with_settings(preset("grammar-entailment"), {"max_failures": 7}))
    plan = ClassifierPlan(settings, "", "", ("no", "yes"), 2, str(tmp_path), "", "", "")
    cells, asked, told = (
        [ClassifierTrial("ae", 5, 0), ClassifierTrial("arae", 3, 1)],
        list[dict[str, float]](),
        list[Any](),
    )
    rows = [{"method": cell.method, "labels": cell.labels, "seed": cell.seed, "test": 50.0} for cell in cells]
    for cell, row in zip(cells, rows, strict=True):
        write_record(result_file(tmp_path, cell), row)
    monkeypatch.setattr(progress_actor, "open_progress_actor", lambda: None)
    monkeypatch.setattr(ray, "remote", lambda _: SimpleNamespace(options=lambda **options: asked.append(options)))
    never: Any = None
    assert (
        semi_supervised.train_classifiers(cells, plan, Room(13, 0, 13, 0, attached=True), never, told.append, never)
        == rows
    )
    assert told == rows
    assert asked == [{"num_cpus": 1.0, "num_gpus": 0.0, "max_retries": 7}] * 2
