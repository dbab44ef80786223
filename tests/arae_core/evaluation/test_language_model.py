"""Perplexities of a language that is known exactly, and the Frechet distance against closed forms and SciPy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm  # type: ignore[import-untyped]

from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from arae_core.evaluation.language_model import (
    COMMON,
    PATIENCE,
    RARE,
    RATE,
    LanguageModel,
    frechet_distance,
    perplexity,
    sentence_features,
    train_language_model,
)

SHAPE = TextSpec(11)
CHANCES = {4: 0.5, 5: 0.25, 6: 0.125, 7: 0.125}
STOP = 0.3


def language(count: int, seed: int) -> TokenStore:
    """Words drawn by CHANCES, each sentence ending after a word with probability STOP, or at seven words."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(rng.geometric(STOP, count), 7)
    return TokenStore.from_rows([rng.choice(list(CHANCES), n, p=list(CHANCES.values())).tolist() for n in lengths])


def entropy(store: TokenStore) -> float:
    """Nats a token of these sentences under the language itself; the end after the seventh word is certain."""
    nats = 0.0
    for i in range(len(store)):
        row = store.row(i).tolist()
        nats -= sum(math.log(CHANCES[word]) for word in row) + (len(row) - 1) * math.log(1 - STOP)
        nats -= math.log(STOP) if len(row) < 7 else 0.0
    return nats / (len(store.ids) + len(store))


def test_a_model_of_a_known_language_has_its_perplexity() -> None:
    """Words do not depend on each other, so that the language's own entropy is what any model can reach."""
    train, validation, test = language(3001, 1), language(499, 2), language(997, 3)
    seen: list[tuple[int, int, float]] = []
    model = train_language_model(
        train, validation, SHAPE, real=train, units=67, seen=36_000, progress=lambda *values: seen.append(values)
    )
    exact = math.exp(entropy(test))
    assert exact * 0.995 < perplexity(model, test) < exact * 1.08
    values = [value for _, _, value in seen]
    assert [epoch for epoch, _, _ in seen] == list(range(1, len(seen) + 1)) and len(seen) <= 12
    assert perplexity(model, validation) == pytest.approx(min(values))
    assert len(seen) == min(12, 1 + values.index(min(values)) + PATIENCE), "then it is done"
    other = TokenStore.from_rows([[9, 8, 9], [8]])
    assert perplexity(model, other) > 100, "words that the language does not have"


def test_the_same_seed_makes_the_same_model() -> None:
    train, validation = language(101, 1), language(53, 2)
    first, second = (
        train_language_model(train, validation, SHAPE, real=train, units=5, seen=400, seed=3) for _ in range(2)
    )
    assert perplexity(first, validation) == perplexity(second, validation)


def test_padding_changes_nothing() -> None:
    """Alone in its batch or beside longer ones, a sentence has the same nats and the same features."""
    torch.manual_seed(0)
    model, store = LanguageModel(SHAPE, 7, np.arange(SHAPE.vocabulary)).eval(), language(13, 5)
    nats = 0.0
    with torch.no_grad():
        for i in range(len(store)):
            batch = store.batch(np.array([i]), SHAPE)
            hidden, _ = model.lstm(model.embedding(batch.source))
            chance = model.output.log_prob(hidden[0])
            nats -= float(chance.gather(1, model.by_frequency[batch.target[0]][:, None]).sum())
            expected = hidden[0].mean(0).double().numpy()
            assert sentence_features(model, store)[i] == pytest.approx(expected, abs=1e-6)
    assert perplexity(model, store) == pytest.approx(math.exp(nats / (len(store.ids) + len(store))), rel=1e-5)


@pytest.mark.parametrize("entries", [5, 11, COMMON, COMMON + 1, RARE + 7])
def test_chances_of_all_entries_sum_to_one(entries: int) -> None:
    """Whatever clusters the vocabulary falls into, the commonest entries are in the first."""
    torch.manual_seed(0)
    counts = np.random.default_rng(0).permutation(entries)
    model = LanguageModel(TextSpec(entries), 17, counts).eval()
    with torch.no_grad():
        every = TokenStore.from_rows([[word] for word in range(entries)])
        nats = torch.stack([model.nll(every.batch(np.array([word]), model.spec))[0] for word in range(0, entries, 97)])
        first = model.output.log_prob(model.lstm(model.embedding(torch.tensor([[model.spec.start]])))[0][0])[0]
    assert float(first.double().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert nats.isfinite().all()
    assert model.by_frequency[int(counts.argmax())] == 0 and model.by_frequency[int(counts.argmin())] == entries - 1


def test_clusters_are_those_of_real_text() -> None:
    """A model of samples has them by the frequencies of real text, where the samples' own would put words they lack."""
    spec = TextSpec(COMMON + 2)
    real = TokenStore.from_rows([[COMMON]] * 3 + [[COMMON + 1]] * 2)
    samples = TokenStore.from_rows([[5, 7], [5, 11], [5]])
    model = train_language_model(samples, samples, spec, units=3, seen=3, real=real)
    own = train_language_model(samples, samples, spec, units=3, seen=3, real=samples)
    assert model.by_frequency[[spec.end, COMMON, COMMON + 1]].tolist() == [0, 1, 2]
    assert own.by_frequency[[spec.end, 5]].tolist() == [0, 1] and int(own.by_frequency[COMMON + 1]) == COMMON + 1


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="needs sentences to learn from"):
        train_language_model(TokenStore.from_rows([]), language(3, 1), SHAPE, real=language(3, 1))
    with pytest.raises(ValueError, match="at least one sentence"):
        perplexity(LanguageModel(SHAPE, 5), TokenStore.from_rows([]))


def test_frechet_distance() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(211, 5)) @ rng.normal(size=(5, 5))
    b = rng.normal(size=(97, 5)) @ rng.normal(size=(5, 5)) + 0.7
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    difference = a.mean(0) - b.mean(0)
    expected = difference @ difference + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 2.0) == pytest.approx(5 * 4.0)
    line = rng.normal(size=(31, 1))  # one dimension: (m1 - m2)^2 + (s1 - s2)^2
    assert frechet_distance(line, 3 * line) == pytest.approx((2 * line.mean()) ** 2 + (2 * line.std(ddof=1)) ** 2)
    with pytest.raises(ValueError, match="two sentences or more"):
        frechet_distance(a, b[:1])


def test_its_rate_falls_to_zero_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    train, rates = language(101, 1), list[float]()

    class Watched(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    epochs = list[int]()
    train_language_model(
        train, language(53, 2), SHAPE, real=train, units=5, seen=400, progress=lambda _, most, __: epochs.append(most)
    )
    steps = len(rates) // len(epochs) * epochs[0]
    assert rates == pytest.approx([RATE * (1 - step / steps) for step in range(len(rates))])


def test_words_are_dropped_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every epoch, and not where it is measured; nor does it touch the caller's random numbers."""
    train, validation, modes, nll = language(101, 1), language(53, 2), list[bool](), LanguageModel.nll

    def noted(model: LanguageModel, batch: Any) -> Any:
        modes.append(model.training)
        return nll(model, batch)

    before, epochs = torch.get_rng_state(), list[int]()
    with monkeypatch.context() as patched:
        patched.setattr(LanguageModel, "nll", noted)
        model = train_language_model(
            train, validation, SHAPE, real=train, units=5, seen=400, progress=lambda epoch, *_: epochs.append(epoch)
        )
    assert torch.equal(torch.get_rng_state(), before)
    assert len(epochs) > 1 and modes == [True, True, False] * len(epochs), "two batches of training, one of validation"
    for measure in (perplexity, sentence_features):
        first = measure(model.train(), validation)
        assert np.array_equal(first, measure(model.train(), validation))
