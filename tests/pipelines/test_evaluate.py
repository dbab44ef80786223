"""evaluate as it is typed, on small models of the grammar: each experiment's table, picture and mistakes."""

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from arae_core.evaluation import language_model, latent
from arae_core.evaluation.generation import SentenceScorer
from arae_core.evaluation.robustness import nats_given, swapped
from arae_core.model import Model
from arae_core.runtime.parallel import Parallel
from arae_core.settings.tree import flatten, with_settings
from arae_core.training.checkpoint import read_about
from pipelines import evaluate
from pipelines.cli import evaluation
from pipelines.corpora.corpus import prepare
from pipelines.evaluation import corpus_language_model
from pipelines.evaluation.corpus_language_model import load_or_train_language_model
from pipelines.evaluation.evaluated_models import load_evaluated_model
from pipelines.evaluation.tasks import TASKS, TaskOptions, TaskResult, code_space
from pipelines.evaluation.tasks.attribute_transfer import attribute_transfer
from pipelines.evaluation.tasks.perplexity import reconstruct_ids, sample_perplexity
from pipelines.evaluation.tasks.robustness import word_swaps
from pipelines.evaluation.transfer_metrics import GrammarClassifier, score_transfer
from pipelines.experiment.presets import preset
from pipelines.training.worker import Metrics, Task, train_worker
from tests.pipelines.small import SMALL
from tests.pipelines.test_model_commands import Typed, result, typed

__all__ = ["typed"]


@pytest.fixture(scope="module", autouse=True)
def short_language_models() -> Iterator[None]:
    """Two epochs instead of twelve for each language model."""
    with patch.object(language_model, "MOST_EPOCHS", 2):
        yield


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def trained(storage: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """trained("ae", **changes): a checkpoint of a small grammar-sentiment after twelve iterations."""

    def make(name: str, **changes: Any) -> Path:
        from pipelines.tracking.runs import start_parent

        shutil.copyfile(empty_database, storage / f"{name}.db")
        uri = f"sqlite:///{storage / f'{name}.db'}"
        settings = {**SMALL, "iterations": 12, "evaluate_every": 12, "data.size": 900, **changes}
        experiment = with_settings(preset("grammar-sentiment"), settings)
        corpus = prepare(experiment, storage)
        kept = storage / "kept" / name

        def report(metrics: Metrics, checkpoint: Path | None) -> None:
            if checkpoint is not None:
                shutil.copytree(checkpoint, kept)

        task = Task(flatten(experiment), str(corpus.folder), uri, start_parent(uri, "test", name, params={}))
        train_worker(task, Parallel(), report)
        return kept

    return make


@pytest.fixture(scope="module")
def arae(trained: Callable[..., Path]) -> Path:
    return trained("arae")


@pytest.fixture(scope="module")
def plain(trained: Callable[..., Path]) -> Path:
    return trained("ae", **{"critic.objective": "none", "data.label": "", "data.classes": ()})


def table(out: str, name: str) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in result(out)["tables"][name]}


def test_robustness_is_a_table_and_a_picture(typed: Typed, arae: Path, plain: Path, storage: Path) -> None:
    both = f"{arae},{plain}"
    words = ("--model", both, "--on", "robustness", "--storage", storage, "--run-name", "first", "--json")
    status, out, _ = typed(evaluate, *words)
    assert status == 0 and "k=2: " in out
    rows = table(out, "robustness")
    assert set(rows) == {str(arae), str(plain)}
    subject = load_evaluated_model(str(plain), "", storage)
    store = subject.store("validation")
    exact = nats_given(subject.model.state, store, store).mean()
    assert rows[str(plain)]["k=0"] == pytest.approx(exact, rel=1e-5)
    folder = storage / "evaluations" / "first"
    assert np.asarray(Image.open(folder / "robustness.png").convert("L")).std() > 10, "something is drawn"
    kept = json.loads((folder / "robustness.json").read_text())
    assert kept["rows"] == list(rows.values())
    assert all(line in out for line in kept["text"])


def test_an_evaluation_goes_on_under_its_name(typed: Typed, arae: Path, storage: Path) -> None:
    words = ("--model", arae, "--storage", storage, "--run-name", "on", "--json")
    _, first, _ = typed(evaluate, *words, "--on", "robustness")
    file = storage / "evaluations" / "on" / "robustness.json"
    made = file.stat().st_mtime_ns
    status, out, _ = typed(evaluate, *words, "--on", "robustness,latent")
    assert status == 0 and "already done, read from " in out and file.stat().st_mtime_ns == made
    assert table(out, "robustness") == table(first, "robustness") and table(out, "latent")
    status, _, err = typed(evaluate, *words, "--on", "latent", "--seed", 3)
    assert status == 2 and "evaluation on exists with other settings: seed was 0 and is 3" in err


def test_an_interrupted_evaluation_says_how_it_goes_on(
    typed: Typed, arae: Path, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(TASKS, "robustness", interrupted)
    status, _, err = typed(evaluate, "--model", arae, "--on", "latent,robustness", "--storage", storage)
    assert status == 130 and re.search(r"to continue: .*evaluate\.py .*--run-name \d{8}-\d{6}(-\d)?\n$", err)
    (folder,) = [file.parent for file in (storage / "evaluations").glob("*-*/latent.json")]
    assert folder.name in err


def test_published_figures_stand_beside_those_of_real_text(trained: Callable[..., Path], storage: Path) -> None:
    (storage / "text").mkdir()
    (storage / "text" / "train.txt").write_text("".join(f"{a} {n} .\n" for a in "abcdef" for n in "uvwxyz"))
    changes = {"data.source": str(storage / "text"), "data.columns": ("text",), "data.label": "", "data.classes": ()}
    subject = load_evaluated_model(str(trained("real", **changes)), "", storage)
    rows = {row["model"]: row for row in word_swaps([subject], TaskOptions(storage=storage)).rows}
    assert rows["published, SNLI: AE"]["k=4"] == 9.97 and rows["published, SNLI: ARAE"]["k=0"] == 2.19


def test_latent(typed: Typed, arae: Path, plain: Path, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_space, "NEIGHBOURS", 3)
    monkeypatch.setattr(latent, "neighbours", partial(latent.neighbours, close=4))
    words = ("--on", "latent", "--storage", storage, "--run-name", "second", "--split", "test", "--json")
    status, out, _ = typed(evaluate, "--model", f"{arae},{plain}", *words)
    assert status == 0
    rows = table(out, "latent")
    assert rows[str(arae)]["norm c"] == pytest.approx(1) == rows[str(arae)]["norm c~"]
    codes = Model.load(plain).sample_codes(code_space.PROBED)
    assert rows[str(plain)]["variance c~"] == pytest.approx(codes.var(0).sum(), rel=1e-4)
    assert rows[str(arae)]["sentences"] > 5
    assert -1 <= rows[str(arae)]["cosine, random"] <= rows[str(arae)]["cosine, neighbours"] <= 1
    assert rows[str(arae)]["cosine, neighbours"] < rows[str(arae)]["cosine, within 2"] <= 1
    assert (storage / "evaluations" / "second" / "latent.png").is_file()


def test_transfer_and_what_cannot_take_part(typed: Typed, arae: Path, plain: Path, storage: Path) -> None:
    words = ("--storage", storage, "--run-name", "third", "--json")
    status, out, _ = typed(evaluate, "--model", arae, "--on", "transfer", *words)
    assert status == 0
    rows = table(out, "transfer")
    copy = rows["copy of the input"]
    assert copy["self_bleu"] == pytest.approx(100) and copy["accuracy"] == 0
    own = rows[str(arae)]
    assert own["score"] == pytest.approx(math.sqrt(own["accuracy"] * own["self_bleu"]))
    assert "accuracy of the classifier on the real sentences: " in out
    status, _, err = typed(evaluate, "--model", plain, "--on", "transfer", *words)
    assert status == 2 and "--on transfer: no model has an attribute" in err


def test_a_model_without_classes_moves_codes(typed: Typed, arae: Path, plain: Path, storage: Path) -> None:
    words = ("--model", f"{plain},{arae}", "--on", "transfer", "--storage", storage, "--run-name", "moved", "--json")
    status, out, _ = typed(evaluate, *words)
    assert status == 0
    moved = table(out, "transfer")[str(plain)]
    subject, labelled = load_evaluated_model(str(plain), "", storage), load_evaluated_model(str(arae), "", storage)
    held, train = labelled.store("validation"), labelled.store("train")
    assert held.labels is not None and train.labels is not None and labelled.model.vocabulary is not None
    texts = labelled.model.vocabulary.decode(held.rows(range(len(held))))
    sides = [labelled.model.vocabulary.decode(train.rows(np.flatnonzero(train.labels == y))) for y in (0, 1)]
    to_positive = subject.model.offset(*sides)
    signs = 1 - 2 * held.labels
    written = [subject.model.shift([text], to_positive * sign)[0] for text, sign in zip(texts, signs, strict=True)]
    wanted = [labelled.model.classes[1 - y] for y in held.labels]
    expected = score_transfer(GrammarClassifier("sentiment"), texts, written, wanted)
    assert moved["self_bleu"] == pytest.approx(expected["transfer_self_bleu"], abs=1.0)
    assert moved["forward"] > 1 and moved["reverse"] > 1


def test_transfer_beside_people_and_other_systems(typed: Typed, arae: Path, storage: Path, tmp_path: Path) -> None:
    texts = ["a sad man sleeps .", "the dogs eat happily .", "three mean girls run ."]
    rewritten = ["a happy man sleeps .", "the dogs eat sadly .", "three kind girls run ."]
    lines = [f"{a},{y},{b}" for a, y, b in zip(texts, ("negative", "positive", "negative"), rewritten, strict=True)]
    (tmp_path / "people.csv").write_text("\n".join(["source,label,reference_0", *lines]) + "\n")
    (tmp_path / "others.csv").write_text(
        "\n".join(["system,source,output", *(f"perfect,{a},{b}" for a, b in zip(texts, rewritten, strict=True))]) + "\n"
    )
    words = ("--model", arae, "--on", "transfer", "--storage", storage, "--references", "people.csv", "--json")
    status, out, _ = typed(evaluate, *words, "--outputs", "others.csv")
    assert status == 0
    rows = table(out, "transfer")
    assert set(rows) == {"copy of the input", "perfect", str(arae)}
    assert rows["perfect"]["bleu"] == pytest.approx(100) and 0 < rows["copy of the input"]["bleu"] < 100
    assert rows["perfect"]["g2"] == pytest.approx(math.sqrt(100 * rows["perfect"]["accuracy"]))
    numbers = (tmp_path / "people.csv").read_text().replace(",negative,", ",0,").replace(",positive,", ",1,")
    (tmp_path / "numbers.csv").write_text(numbers)
    status, out, _ = typed(evaluate, *(str(w).replace("people", "numbers") for w in words), "--outputs", "others.csv")
    assert status == 0 and table(out, "transfer") == rows
    for file, message in (
        ("system,source,output\nhalf,a sad man sleeps .,a man .\n", "half has no output for 2 of 3 sentences"),
        ("system,source\nx,y\n", "--outputs others.csv must have a column output"),
    ):
        (tmp_path / "others.csv").write_text(file)
        status, _, err = typed(evaluate, *words, "--outputs", "others.csv")
        assert status == 2 and message in err
    for file, message in (
        ("source,label\na,positive\n", "must have a column reference"),
        ("source,label,reference\na,neutral,b\n", "label must be one of negative, positive, got 'neutral'"),
        ("text,label,reference\na,positive,b\n", "--references people.csv must have a column source"),
        ('source,label,reference\n"a', "--references: people.csv, line 2 cannot be read as CSV"),
    ):
        (tmp_path / "people.csv").write_text(file)
        status, out, err = typed(evaluate, *words, "--on", "robustness,transfer")
        assert status == 2 and message in err and err.count("\n") == 1
        assert out == "" or "robustness" not in out, "before anything is evaluated"


def test_perplexity_both_ways(typed: Typed, arae: Path, storage: Path) -> None:
    words = ("--model", arae, "--on", "perplexity", "--samples", 70, "--storage", storage, "--json")
    status, out, _ = typed(evaluate, *words)
    assert status == 0
    rows = table(out, "perplexity")
    (real,) = (row for name, row in rows.items() if name.startswith("real sentences"))
    own = rows[str(arae)]
    assert own["samples"] == real["samples"] == 70
    assert real["novel"] == 0 and 0 <= own["distinct"] <= 1 and own["frechet"] > real["frechet"] >= 0
    assert own["reverse"] > real["reverse"] > 1, "a model of twelve iterations writes worse than people"
    kept = next(storage.glob("data/*/language_model-*.safetensors"))
    before = kept.stat().st_mtime_ns
    assert typed(evaluate, *words)[0] == 0
    assert kept.stat().st_mtime_ns == before, "the language model of the real text is kept"
    save_file({"other": torch.zeros(2)}, kept)
    assert table(typed(evaluate, *words)[1], "perplexity")[str(arae)]["forward"] == own["forward"]
    assert kept.stat().st_size > 1000, "one of an earlier version is made again"


def test_the_bar_is_real_text_that_its_language_model_has_not_seen(arae: Path, storage: Path) -> None:
    subject = load_evaluated_model(str(arae), "", storage)
    asked = TaskOptions(split="test", samples=70, storage=storage, log=lambda _: None)
    real = sample_perplexity([subject], asked).rows[0]
    model = load_or_train_language_model(subject, storage, lambda _: None)
    assert real["forward"] == pytest.approx(language_model.perplexity(model, subject.store("test")), rel=1e-6)
    assert real["forward"] > language_model.perplexity(model, subject.store("train"))


def test_empty_samples_count(arae: Path, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = load_evaluated_model(str(arae), "", storage)
    asked = TaskOptions(samples=70, storage=storage, log=lambda _: None)
    own = sample_perplexity([subject], asked).rows[-1]
    written = subject.model.generate_ids(70)
    monkeypatch.setattr(subject.model, "generate_ids", lambda *_, **__: [[], *written[:35], *[[]] * 34])
    half_empty = sample_perplexity([subject], asked).rows[-1]
    assert half_empty["samples"] == 70 and half_empty["reverse"] > own["reverse"]


def test_what_is_copied_covers_other_sentences_not_its_own(arae: Path, storage: Path) -> None:
    subject = load_evaluated_model(str(arae), "", storage)
    copied = attribute_transfer([subject], TaskOptions(storage=storage)).rows[0]
    held, vocabulary = subject.store("validation"), subject.model.vocabulary
    assert vocabulary is not None and copied["model"] == "copy of the input"
    itself = SentenceScorer(subject.store("train"), held, len(vocabulary)).score(held.rows(range(len(held))))
    assert copied["reverse"] > 1.2 * itself["reverse_perplexity"]
    assert copied["forward"] == pytest.approx(itself["forward_perplexity"], rel=0.1)


def test_perplexity_of_reconstructions(typed: Typed, arae: Path, storage: Path) -> None:
    words = ("--model", arae, "--on", "perplexity", "--samples", 70, "--storage", storage, "--json")
    rows = table(typed(evaluate, *words, "--reconstructed")[1], "perplexity")
    assert set(rows) - set(table(typed(evaluate, *words)[1], "perplexity")) == {f"{arae}, reconstructions"}
    assert rows[f"{arae}, reconstructions"]["samples"] == 70
    assert rows[f"{arae}, reconstructions"]["reverse"] != rows[str(arae)]["reverse"]


def test_reconstructions_are_of_the_sentences_themselves(arae: Path, storage: Path) -> None:
    """A model that says every sentence again has those of real text."""
    subject = load_evaluated_model(str(arae), "", storage)
    rows = subject.store("train").rows(range(17))
    with patch.object(type(subject.model), "reconstruct", lambda self, sentences, **how: list(sentences)):
        assert reconstruct_ids(subject, rows, 0) == rows
    assert reconstruct_ids(subject, rows, 0) != rows


def test_all_that_the_models_can(typed: Typed, plain: Path, storage: Path) -> None:
    status, out, _ = typed(evaluate, "--model", plain, "--samples", 40, "--storage", storage, "--json")
    assert status == 0 and "transfer: skipped, " in out
    assert set(result(out)["tables"]) == {"perplexity", "latent", "robustness"}


def test_data_are_prepared_again_where_they_are_not_there(plain: Path, tmp_path: Path) -> None:
    subject = load_evaluated_model(str(plain), "", tmp_path)
    assert subject.corpus.fingerprint == read_about(plain)["data_fingerprint"]
    assert (tmp_path / "data" / subject.corpus.fingerprint).is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--on", "speed"), "--on must be among latent, robustness, transfer, perplexity, got 'speed'"),
        (("--samples", "1"), "--samples must be >= 2, got 1"),
        (("--samples", "1000000000000"), "got 1000000000000: the codes would not fit into this machine's memory"),
        (("--run-name", "a/b"), "--run-name must be a name without slashes"),
        (("--run-name", ".."), "--run-name must be a name without slashes"),
        (("--seed", "-1"), "--seed must be in [0, 2**32), got -1"),
        (("--model", " ,"), "--model must be one or more models, separated by commas, got ' ,'"),
        (("--outputs", "others.csv"), "--outputs needs --references"),
        (("--references", "none.csv"), "--references none.csv: no such file"),
        (("--split", "train"), "split must be one of validation, test, got 'train'"),
    ],
)
def test_mistakes(typed: Typed, plain: Path, storage: Path, words: tuple[str, ...], message: str) -> None:
    status, _, err = typed(evaluate, "--model", plain, "--storage", storage, *words)
    assert status == 2 and message in err and err.count("\n") == 1


def test_models_that_say_too_little(typed: Typed, text_checkpoint: Path, image_checkpoint: Path, storage: Path) -> None:
    for checkpoint in (text_checkpoint, image_checkpoint):
        status, _, err = typed(evaluate, "--model", checkpoint, "--storage", storage)
        assert status == 2 and "the checkpoint does not record its training data" in err


def test_nats_are_of_the_sentence_and_its_code_of_the_swapped_one(plain: Path, storage: Path) -> None:
    subject = load_evaluated_model(str(plain), "", storage)
    store, row = (
        subject.store("test"),
        word_swaps([subject], TaskOptions(split="test", seed=3, storage=storage)).rows[0],
    )
    for k in (0, 3):
        exact = nats_given(subject.model.state, store, swapped(store, k, 3)).mean()
        assert row[f"k={k}"] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("contrast", [None, 0.0, 2.5])
def test_transfer_is_at_the_contrast_asked_for(
    contrast: float | None, arae: Path, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, subject = list[float | None](), load_evaluated_model(str(arae), "", storage)

    def transfer(self: Model, sentences: list[str], wanted: list[str], *, contrast: float | None = None) -> list[str]:
        asked.append(contrast)
        return list(sentences)

    monkeypatch.setattr(Model, "transfer", transfer)
    attribute_transfer([subject], TaskOptions(storage=storage, contrast=contrast))
    assert asked == [contrast]


def test_language_models_see_the_split_asked_for_at_the_end_alone(
    arae: Path, storage: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their best epochs are those on validation; both perplexities are of the split."""
    subject, train = load_evaluated_model(str(arae), "", storage), language_model.train_language_model
    made, chosen_on = list[language_model.LanguageModel](), list[Any]()

    def watched(sentences: Any, validation: Any, *rest: Any, **named: Any) -> language_model.LanguageModel:
        made.append(train(sentences, validation, *rest, **named))
        chosen_on.append(validation)
        return made[-1]

    monkeypatch.setattr(language_model, "train_language_model", watched)
    monkeypatch.setattr(corpus_language_model, "train_language_model", watched)
    rows = sample_perplexity(
        [subject], TaskOptions(split="test", samples=70, storage=tmp_path, log=lambda _: None)
    ).rows
    validation, test = subject.store("validation"), subject.store("test")
    assert len(made) == 3 and all(np.array_equal(each.ids, validation.ids) for each in chosen_on)
    for model, row in zip(made[1:], rows, strict=True):
        assert row["reverse"] == pytest.approx(language_model.perplexity(model, test), rel=1e-6)


def test_codes_move_from_the_class_that_they_have_to_the_one_wanted(
    arae: Path, plain: Path, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, labelled = load_evaluated_model(str(plain), "", storage), load_evaluated_model(str(arae), "", storage)
    train, vocabulary = labelled.store("train"), labelled.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    sides = [vocabulary.decode(train.rows(np.flatnonzero(train.labels == y))) for y in (0, 1)]
    to_positive, moved = subject.model.offset(*sides), list[Any]()

    def shift(self: Model, sentences: list[str], offset: Any) -> list[str]:
        moved.append((sentences, offset))
        return list(sentences)

    monkeypatch.setattr(Model, "shift", shift)
    attribute_transfer([subject, labelled], TaskOptions(storage=storage))
    held = labelled.store("validation")
    assert held.labels is not None
    own = dict(zip(vocabulary.decode(held.rows(range(len(held)))), held.labels, strict=True))
    assert len(moved) == 2
    for sentences, offset in moved:
        (label,) = {own[sentence] for sentence in sentences}
        np.testing.assert_allclose(offset, to_positive * (1 - 2 * label), atol=1e-5)


def test_a_name_goes_with_what_its_tables_depend_on(
    typed: Typed, arae: Path, plain: Path, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model itself and not where it lies, what is in the files, the split and all that is asked for."""
    monkeypatch.setitem(TASKS, "latent", lambda *_: TaskResult([{"model": "x", "norm": 1.0}], text=["text"]))
    model, people = tmp_path / "model", tmp_path / "people.csv"
    shutil.copytree(arae, model)
    people.write_text("source,label,reference\na man sleeps .,positive,a man .\n")
    words = ("--model", model, "--on", "latent", "--storage", storage, "--run-name", "kept", "--references", people)
    assert typed(evaluate, *words)[0] == 0
    for flag, value in (("split", "test"), ("samples", 70), ("contrast", 0.5), ("seed", 3)):
        status, _, err = typed(evaluate, *words, f"--{flag}", value)
        assert status == 2 and f"evaluation kept exists with other settings: {flag} was " in err
    people.write_text("source,label,reference\na man sleeps .,positive,the man .\n")
    status, _, err = typed(evaluate, *words)
    assert status == 2 and "references was " in err
    people.write_text("source,label,reference\na man sleeps .,positive,a man .\n")
    shutil.rmtree(model)
    shutil.copytree(plain, model)
    status, _, err = typed(evaluate, *words)
    assert status == 2 and "models was " in err


def test_evaluations_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    names = []
    for _ in range(3):
        folder = evaluation.new_folder(tmp_path)
        folder.mkdir()
        names.append(folder.name)
    assert names == ["20260101-000000", "20260101-000000-2", "20260101-000000-3"]


def test_tables_are_kept_in_every_models_run(tracking_uri: str, tmp_path: Path) -> None:
    from pipelines.tracking.runs import start_parent
    from pipelines.tracking.store import connect

    subjects: list[Any] = [
        SimpleNamespace(run_id=start_parent(tracking_uri, "test", name, params={})) for name in ("one", "other")
    ]
    outcome = TaskResult([{"model": "one", "norm": 1.0}], text=["text"])
    content = evaluation._save_result(outcome, "latent-test", tmp_path / "latent", subjects, tracking_uri)
    assert content == {"rows": [{"model": "one", "norm": 1.0}], "text": ["text"]}
    for subject in subjects:
        kept = connect(tracking_uri).list_artifacts(subject.run_id, "evaluation")
        assert [file.path for file in kept] == ["evaluation/latent-test.json"]
