"""A classifier on an encoder's codes: features, supervised step, training, files."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from arae_core.classification import ClassifierHead, SentenceClassifier, pair_features, supervise, train_classifier
from arae_core.data.batches import TokenStore
from arae_core.data.labelled import LabelledStore
from arae_core.data.vocabulary import Vocabulary
from arae_core.settings import HeadSettings, VocabularySettings
from arae_core.training.checksums import sealed
from arae_core.training.optimizers import make_optimizer, set_rate
from arae_core.training.state import TrainingState
from tests.arae_core.small import (
    TEXT,
    WORDS,
    assert_same,
    new_state,
    normal,
    sentences,
    store_of,
    text_settings,
    weights,
)

HEAD = HeadSettings(hidden=(13,), dropout=0.0, batch_size=11, learning_rate=0.01)
SENTENCES: Any = store_of("text")
_ROWS = sentences(62)
PAIRS = LabelledStore.from_rows([_ROWS[2 * i : 2 * i + 2] for i in range(31)], [i % 3 for i in range(31)])


def classifier(sentences_each: int = 2, head: HeadSettings = HEAD, **changes: Any) -> SentenceClassifier:
    return SentenceClassifier.new(new_state(text_settings(changes)), head, sentences_each, ("a", "b", "c"))


def test_features_of_one_sentence_and_of_a_pair() -> None:
    codes = normal(10, 7).reshape(5, 2, 7)
    u, v = (
        (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt() for x in codes.unbind(1)
    )
    torch.testing.assert_close(pair_features(codes), torch.cat([u, v, (u - v).abs(), u * v], 1))
    torch.testing.assert_close(pair_features(codes[:, :1]), u)


def test_the_head_is_an_mlp() -> None:
    head, x = ClassifierHead(HeadSettings(hidden=(5, 3)), 7, 2, 3), normal(4, 28).float()
    first, second, third = head.layers
    torch.testing.assert_close(head(x), third(second(first(x).relu()).relu()))


def test_dropout_keeps_the_mean_and_draws_from_the_state() -> None:
    state = new_state(text_settings())
    head = ClassifierHead(HeadSettings(hidden=(), dropout=0.3), 7, 1, 3)
    ones = torch.ones(2000, 7, dtype=torch.float64)
    before = state.draws.get_state()
    dropped = head._dropped(ones, state)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 1 / 0.7])
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    state.draws.set_state(before)
    assert torch.equal(head._dropped(ones, state), dropped)
    assert head._dropped(ones, None) is ones


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_the_supervised_step_descends_the_cross_entropy(clip: float) -> None:
    made, rows = classifier(gradient_clip=clip), np.array([3, 8, 1, 30])
    parameters = [*made.state.modules["encoder"].parameters(), *made.head.parameters()]
    optimizer = make_optimizer(HeadSettings(optimizer="sgd", learning_rate=0.1), parameters, cools=False)
    batch, labels = PAIRS.batch(rows, TEXT, torch.device("cpu"))
    u, v = (F.layer_norm(c, (7,)) for c in made.state.encode(batch).reshape(4, 2, 7).unbind(1))
    logits = made.head(torch.cat([u, v, (u - v).abs(), u * v], 1))
    loss = -logits.log_softmax(1)[torch.arange(4), labels].mean()
    gradients = torch.autograd.grad(loss, parameters)
    norm = float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())
    rate = 0.1 * (clip / norm if clip else 1)
    expected = [(p - rate * g).detach().clone() for p, g in zip(parameters, gradients, strict=True)]
    before = weights(made.state)
    scalars = supervise(made, optimizer, PAIRS, rows)
    assert norm > 1e-2 and float(scalars["classification_loss"]) == pytest.approx(float(loss.detach()), abs=1e-12)
    for p, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.detach(), wanted, rtol=0, atol=1e-9)
    after, others = weights(made.state), [name for name in before if not name.startswith("encoder")]
    assert_same({name: before[name] for name in others}, {name: after[name] for name in others})


@pytest.mark.parametrize("per", [1, 2])
def test_it_learns_a_simple_task(per: int) -> None:
    """One sentence: is its first word among the first six of the vocabulary? A pair: are both sentences the same?"""
    rng = np.random.default_rng(0)
    examples, labels = [], []
    for i in range(120):
        first = rng.choice(WORDS, size=3).tolist()
        if per == 1:
            examples.append([first])
            labels.append(int(first[0] in WORDS[:6]))
        else:
            examples.append([first, first if i % 2 else rng.choice(WORDS, size=3).tolist()])
            labels.append(i % 2)
    data = LabelledStore.from_rows(examples, labels)
    state = new_state(text_settings({"encoder.hidden": (29,), "code.size": 29}))
    made = SentenceClassifier.new(state, HEAD, per, ("no", "yes"))
    assert made.accuracy(data) < 0.8
    (report,) = train_classifier(made, data, None, until=300, every=300)
    assert report.scalars["classification_loss"] < 0.3 and made.accuracy(data) > 0.95


@pytest.mark.parametrize("store", [SENTENCES, None], ids=["with sentences", "without"])
def test_the_autoencoder_is_trained_if_there_are_unlabelled_sentences(store: TokenStore | None) -> None:
    made = classifier()
    before = weights(made.state)["decoder.lstm.weight_hh_l0"]
    reports = list(train_classifier(made, PAIRS, store, until=4, every=3))
    assert [report.step for report in reports] == [3, 4] and made.state.step == 4
    assert torch.equal(before, weights(made.state)["decoder.lstm.weight_hh_l0"]) == (store is None)
    assert ("reconstruction_loss" in reports[0].scalars) == (store is not None)


def test_the_supervised_step_cools_down_with_the_others() -> None:
    made = classifier(cooldown=1.0)
    with patch("arae_core.classification.set_rate", wraps=set_rate) as rates:
        list(train_classifier(made, PAIRS, SENTENCES, until=5, every=5))
    supervised = [call.args[1] / HEAD.learning_rate for call in rates.call_args_list]
    assert supervised == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    encoder = made.state.optimizers["encoder"].param_groups[0]["lr"]
    assert encoder == pytest.approx(0.2 * made.state.settings.encoder.learning_rate)


def test_the_seed_determines_the_result() -> None:
    results = []
    for seed in (5, 5, 6):
        made = classifier(head=HeadSettings(hidden=(5,), dropout=0.4, batch_size=7), seed=seed)
        list(train_classifier(made, PAIRS, SENTENCES, until=3, every=3))
        results.append(made.weights())
    assert_same(results[0], results[1])
    assert any(not torch.equal(value, results[2][name]) for name, value in results[0].items())


def test_predictions_depend_on_the_weights_and_not_on_the_batch() -> None:
    made = classifier()
    found = made.predict(PAIRS, batch_size=31)
    assert np.array_equal(found, made.predict(PAIRS, batch_size=2))
    assert np.array_equal(found[[4, 9]], made.predict(PAIRS.of(np.array([4, 9]))))
    assert made.accuracy(PAIRS) == (found == PAIRS.labels).mean()
    kept, before = made.weights(), made.logits(PAIRS, np.arange(5), training=False)[0]
    list(train_classifier(made, PAIRS, None, until=2, every=2))
    assert not torch.allclose(made.logits(PAIRS, np.arange(5), training=False)[0], before)
    made.load_weights(kept)
    assert torch.equal(made.logits(PAIRS, np.arange(5), training=False)[0], before)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[SentenceClassifier, Path]:
    words = Vocabulary.train(["a dog runs .", "the cat sleeps ."], VocabularySettings())
    state = TrainingState.new(text_settings({"precision": "float32"}), words.spec)
    made = SentenceClassifier.new(state, HEAD, 2, ("a", "b", "c"), words)
    return made, made.save(tmp_path / "classifier")


def test_a_saved_classifier_predicts_the_same_once_loaded(saved: tuple[SentenceClassifier, Path]) -> None:
    made, folder = saved
    loaded = SentenceClassifier.load(folder)
    examples = [("a dog runs .", "the cat sleeps ."), ("a cat", "the dog"), ("the unheard of", "a " * 40)]
    assert loaded.classify(examples) == made.classify(examples) and loaded.classify([]) == []
    assert loaded.classes == ("a", "b", "c") and loaded.head.settings == HEAD
    assert not any("training" in file.name for file in folder.rglob("*.safetensors"))
    with pytest.raises(OSError, match="classifier"):
        made.save(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["classifier"], "nothing is left behind"


def test_examples_of_the_wrong_shape_are_refused(saved: tuple[SentenceClassifier, Path]) -> None:
    with pytest.raises(ValueError, match="example 1 must have 2 sentences, it has 1"):
        saved[0].classify([("a dog",)])
    with pytest.raises(ValueError, match="example 2 has an empty sentence"):
        saved[0].classify([("a dog", "a cat"), ("a dog", " ")])


def test_damaged_classifiers_are_refused(saved: tuple[SentenceClassifier, Path]) -> None:
    _, folder = saved
    content = json.loads((folder / "head.json").read_text())
    others = [{**content, "classes": content["classes"][::-1]}, sealed({**content, "classes": ["a"]})]
    for text in ("{", *map(json.dumps, others), json.dumps({"head": content["head"]})):
        (folder / "head.json").write_text(text)
        with pytest.raises(ValueError, match="classifier cannot be loaded"):
            SentenceClassifier.load(folder)
    (folder / "head.json").write_text(json.dumps(content))
    data = bytearray((folder / "head.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "head.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"classifier cannot be loaded: .*checksum"):
        SentenceClassifier.load(folder)
    with pytest.raises(ValueError, match=r"autoencoder is not a classifier: it has no head\.json"):
        SentenceClassifier.load(folder / "autoencoder")


def test_bad_models_and_data_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a model of sentences"):
        SentenceClassifier.new(new_state(text_settings({"kind": "image", "encoder.hidden": (5,)})), HEAD, 1, ("a", "b"))
    with pytest.raises(ValueError, match="an example must have 1 or 2 sentences, got 3"):
        classifier(sentences_each=3)
    with pytest.raises(ValueError, match=r"^longest must be >= 7, the longest example, got 6"):
        next(train_classifier(classifier(longest=6), PAIRS, None, until=1, every=1))
    diverging = classifier(head=HeadSettings(hidden=(5,), optimizer="sgd", learning_rate=1e300), gradient_clip=0.0)
    with pytest.raises(FloatingPointError, match="not finite"):
        list(train_classifier(diverging, PAIRS, None, until=20, every=2))


def test_long_sentences_are_cut(saved: tuple[SentenceClassifier, Path]) -> None:
    made, _ = saved
    with patch.object(made, "predict", return_value=[0]) as predict:
        made.classify([("a dog " * 40, "a cat")])
    assert predict.call_args.args[0].sentences.lengths.tolist() == [made.state.settings.longest, 2]
