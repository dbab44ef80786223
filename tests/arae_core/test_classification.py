"""A classifier beside an autoencoder: its features, its step, what it learns, its files."""

import json
from pathlib import Path
from typing import Any

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
from arae_core.training.optimizers import make_optimizer
from arae_core.training.state import TrainingState
from tests.arae_core.small import IMAGE, TEXT, WORDS, image_settings, sentences, store_of, text_settings

HEAD = HeadSettings(hidden=(13,), dropout=0.0, batch_size=11, learning_rate=0.01)


def labelled(sentences_each: int = 2, count: int = 31, classes: int = 3) -> LabelledStore:
    rows = sentences(count * sentences_each)
    examples = [rows[i * sentences_each : (i + 1) * sentences_each] for i in range(count)]
    return LabelledStore.from_rows(examples, [i % classes for i in range(count)])


def classifier(sentences_each: int = 2, head: HeadSettings = HEAD, **changes: Any) -> SentenceClassifier:
    settings = text_settings({name.replace("__", "."): value for name, value in changes.items()})
    state = TrainingState.new(settings, TEXT)
    return SentenceClassifier.new(state, head, sentences_each, ("a", "b", "c"))


def test_features_of_a_pair() -> None:
    codes = torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = pair_features(codes)
    assert found.shape == (5, 28)
    values = codes.numpy()
    u, v = (
        (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) for x in (values[:, 0], values[:, 1])
    )
    expected = np.concatenate([u, v, np.abs(u - v), u * v], 1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(pair_features(codes[:, :1]).numpy(), expected[:, :7], atol=1e-10)


def test_the_two_of_a_pair_are_told_apart() -> None:
    codes = torch.randn(3, 2, 7, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(pair_features(codes), pair_features(codes.flip(1)))


def test_the_head_is_an_mlp() -> None:
    head = ClassifierHead(HeadSettings(hidden=(5, 3)), 7, 2, 3)
    first, second, third = head.layers
    x = torch.randn(4, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(x), third(second(first(x).relu()).relu()))


def test_dropout_keeps_the_mean_and_is_drawn_from_the_state() -> None:
    state = TrainingState.new(text_settings(), TEXT)
    head = ClassifierHead(HeadSettings(hidden=(), dropout=0.3), 7, 1, 3)
    ones = torch.ones(2000, 7, dtype=torch.float64)
    before = state.draws.get_state()
    dropped = head._dropped(ones, state)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 1 / 0.7])
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    state.draws.set_state(before)
    assert torch.equal(head._dropped(ones, state), dropped)
    assert head._dropped(ones, None) is ones


def test_a_step_is_that_of_the_cross_entropy() -> None:
    """Against the loss written out, and one step of plain gradient descent."""
    made, data = classifier(gradient_clip=0.0), labelled()
    rows = np.array([3, 8, 1, 30])
    parts = {"encoder": made.state.modules["encoder"], "head": made.head}
    parameters = [p for part in parts.values() for p in part.parameters()]
    batch, labels = data.batch(rows, TEXT, torch.device("cpu"))
    u, v = (F.layer_norm(c, (7,)) for c in made.state.encode(batch).reshape(4, 2, 7).unbind(1))
    logits = made.head(torch.cat([u, v, (u - v).abs(), u * v], 1))
    loss = -logits.log_softmax(1)[torch.arange(4), labels].mean()
    gradients = torch.autograd.grad(loss, parameters)
    expected = [(p - 0.1 * g).detach().clone() for p, g in zip(parameters, gradients, strict=True)]
    others = {n: p.clone() for n, p in made.state.modules.state_dict().items() if not n.startswith("encoder")}
    optimizer = make_optimizer(HeadSettings(optimizer="sgd", learning_rate=0.1), parameters, cools=False)
    scalars = supervise(made, optimizer, data, rows)
    assert float(scalars["classification_loss"]) == pytest.approx(float(loss.detach()), abs=1e-12)
    for p, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.detach(), wanted, rtol=0, atol=1e-12)
    for name, value in others.items():
        assert torch.equal(made.state.modules.state_dict()[name], value), name


@pytest.mark.parametrize("per", [1, 2])
def test_it_learns_what_can_be_known(per: int) -> None:
    """Of a sentence, whether its first word is an early one; of a pair, whether its two sentences are the same."""
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
    settings = text_settings({"encoder.hidden": (29,), "code.size": 29})
    state = TrainingState.new(settings, TEXT)
    made = SentenceClassifier.new(state, HEAD, per, ("no", "yes"))
    assert made.accuracy(data) < 0.8
    (report,) = train_classifier(made, data, None, until=300, every=300)
    assert report.scalars["classification_loss"] < 0.3 and made.accuracy(data) > 0.95


def test_with_sentences_the_autoencoder_learns_as_well_without_them_it_does_not() -> None:
    store = store_of("text")
    assert isinstance(store, TokenStore)
    for sentences_without_labels in (store, None):
        made = classifier()
        before = made.state.decoder.state_dict()["lstm.weight_hh_l0"].clone()  # type: ignore[attr-defined]
        reports = list(train_classifier(made, labelled(), sentences_without_labels, until=4, every=3))
        assert [report.step for report in reports] == [3, 4] and made.state.step == 4
        after = made.state.decoder.state_dict()["lstm.weight_hh_l0"]  # type: ignore[attr-defined]
        assert torch.equal(before, after) == (sentences_without_labels is None)
        assert ("reconstruction_loss" in reports[0].scalars) == (sentences_without_labels is not None)


def test_the_supervised_step_cools_down_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rates = classifier(cooldown=1.0), list[float]()

    def watched(*arguments: Any) -> Any:
        rates.append(arguments[1].param_groups[0]["lr"] / HEAD.learning_rate)
        return supervise(*arguments)

    monkeypatch.setattr("arae_core.classification.supervise", watched)
    list(train_classifier(made, labelled(), store_of("text"), until=5, every=5))  # type: ignore[arg-type]
    assert rates == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    encoder = made.state.optimizers["encoder"].param_groups[0]["lr"]
    assert encoder == pytest.approx(0.2 * made.state.settings.encoder.learning_rate)


def test_the_seed_decides_everything() -> None:
    def trained(seed: int) -> dict[str, Any]:
        made = classifier(head=HeadSettings(hidden=(5,), dropout=0.4, batch_size=7), seed=seed)
        list(train_classifier(made, labelled(), store_of("text"), until=3, every=3))  # type: ignore[arg-type]
        return made.weights()

    first, again, other = trained(5), trained(5), trained(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_predictions_do_not_depend_on_the_batch() -> None:
    made, data = classifier(), labelled()
    found = made.predict(data, batch_size=31)
    assert np.array_equal(found, made.predict(data, batch_size=2))
    assert np.array_equal(found[[4, 9]], made.predict(data.of(np.array([4, 9]))))
    assert made.accuracy(data) == (found == data.labels).mean()


def test_weights_come_back() -> None:
    made, data = classifier(), labelled()
    kept, before = made.weights(), made.logits(data, np.arange(5), training=False)[0]
    list(train_classifier(made, data, None, until=2, every=2))
    assert not torch.allclose(made.logits(data, np.arange(5), training=False)[0], before)
    made.load_weights(kept)
    assert torch.equal(made.logits(data, np.arange(5), training=False)[0], before)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[SentenceClassifier, Path]:
    words = Vocabulary.train(["a dog runs .", "the cat sleeps ."], VocabularySettings())
    state = TrainingState.new(text_settings({"precision": "float32"}), words.spec)
    made = SentenceClassifier.new(state, HEAD, 2, ("a", "b", "c"), words)
    return made, made.save(tmp_path / "classifier")


def test_saved_and_loaded_it_says_the_same(saved: tuple[SentenceClassifier, Path]) -> None:
    made, folder = saved
    again = SentenceClassifier.load(folder)
    examples = [("a dog runs .", "the cat sleeps ."), ("a cat", "the dog"), ("the unheard of", "a " * 40)]
    assert again.classify(examples) == made.classify(examples) and again.classify([]) == []
    assert again.classes == ("a", "b", "c") and again.head.settings == HEAD
    assert not any(".safetensors" in file.name and "training" in file.name for file in folder.rglob("*"))
    with pytest.raises(OSError, match="classifier"):
        made.save(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["classifier"], "nothing is left behind"


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([("a dog",)], "example 1 must have 2 sentences, it has 1"),
        ([("a dog", "a cat"), ("a dog", " ")], "example 2 has an empty sentence"),
    ],
)
def test_examples_that_are_none(saved: tuple[SentenceClassifier, Path], examples: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        saved[0].classify(examples)


def test_damaged_classifiers(saved: tuple[SentenceClassifier, Path], tmp_path: Path) -> None:
    _, folder = saved
    content = json.loads((folder / "head.json").read_text())
    others = [{**content, "classes": content["classes"][::-1]}, sealed({**content, "classes": ["a"]})]
    for text in ("{", *map(json.dumps, others), json.dumps({"head": content["head"]})):
        (folder / "head.json").write_text(text)
        with pytest.raises(ValueError, match="classifier cannot be loaded"):
            SentenceClassifier.load(folder)
    (folder / "head.json").write_text(json.dumps(content))
    weights = bytearray((folder / "head.safetensors").read_bytes())
    weights[-3] ^= 1
    (folder / "head.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match="classifier cannot be loaded: its head is not what was written"):
        SentenceClassifier.load(folder)
    with pytest.raises(ValueError, match=r"autoencoder is not a classifier: it has no head\.json"):
        SentenceClassifier.load(folder / "autoencoder")


def test_what_cannot_be_classified() -> None:
    with pytest.raises(ValueError, match="classification is of sentences"):
        SentenceClassifier.new(TrainingState.new(image_settings(), IMAGE), HEAD, 1, ("a", "b"))
    with pytest.raises(ValueError, match="an example must have 1 or 2 sentences, got 3"):
        classifier(sentences_each=3)


def test_divergence_is_told() -> None:
    made = classifier(head=HeadSettings(hidden=(5,), optimizer="sgd", learning_rate=1e300), gradient_clip=0.0)
    with pytest.raises(FloatingPointError, match="not finite"):
        list(train_classifier(made, labelled(), None, until=20, every=2))


def test_sentences_longer_than_longest_are_refused() -> None:
    made = classifier(longest=6)
    with pytest.raises(ValueError, match=r"^longest must be >= 7, the longest example, got 6"):
        next(train_classifier(made, labelled(), None, until=1, every=1))


def test_words_past_the_longest_are_not_read(
    saved: tuple[SentenceClassifier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, lengths = saved[0], list[int]()

    def predict(labelled: LabelledStore) -> Any:
        lengths.extend(labelled.sentences.lengths.tolist())
        return np.zeros(len(labelled), np.int64)

    monkeypatch.setattr(made, "predict", predict)
    made.classify([("a dog " * 40, "a cat")])
    assert lengths == [made.state.settings.longest, 2]


def test_the_gradient_of_the_supervised_step_is_clipped() -> None:
    moved = []
    for clip in (1e-3, 0.0):
        made = classifier(gradient_clip=clip)
        parameters = [*made.state.modules["encoder"].parameters(), *made.head.parameters()]
        before = [p.detach().clone() for p in parameters]
        supervise(
            made,
            make_optimizer(HeadSettings(optimizer="sgd", learning_rate=1.0), parameters, cools=False),
            labelled(),
            np.arange(5),
        )
        steps = [(p.detach() - b).square().sum() for p, b in zip(parameters, before, strict=True)]
        moved.append(float(torch.stack(steps).sum().sqrt()))
    assert moved[0] == pytest.approx(1e-3, rel=1e-2) and moved[1] > 2e-3
