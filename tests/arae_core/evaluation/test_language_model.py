"""The LSTM language model on a language of known entropy; the Frechet distance against closed forms and SciPy."""

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

SPEC = TextSpec(11)
PROBABILITIES = {4: 0.5, 5: 0.25, 6: 0.125, 7: 0.125}
STOP = 0.3


def language(count: int, seed: int) -> TokenStore:
    """Sentences of independent words; each ends after a word with probability STOP, or after seven words."""
    rng, words = np.random.default_rng(seed), list(PROBABILITIES)
    lengths = np.minimum(rng.geometric(STOP, count), 7)
    return TokenStore.from_rows([rng.choice(words, n, p=list(PROBABILITIES.values())).tolist() for n in lengths])


def entropy(store: TokenStore) -> float:
    """Nats per token of sentences under the language itself; the end after the seventh word is certain."""
    nats = 0.0
    for i in range(len(store)):
        row = store.row(i).tolist()
        nats -= sum(math.log(PROBABILITIES[word]) for word in row) + (len(row) - 1) * math.log(1 - STOP)
        nats -= math.log(STOP) if len(row) < 7 else 0.0
    return nats / (len(store.ids) + len(store))


def small_model(**options: Any) -> tuple[LanguageModel, TokenStore]:
    """Train a small model; return it and its validation split."""
    train, validation = language(101, 1), language(53, 2)
    return train_language_model(train, validation, SPEC, real=train, units=5, seen=400, **options), validation


def test_perplexity_approaches_the_entropy_of_a_known_language() -> None:
    train, validation, test = language(3001, 1), language(499, 2), language(997, 3)
    epochs, values = list[int](), list[float]()

    def progress(epoch: int, _: int, value: float) -> None:
        epochs.append(epoch)
        values.append(value)

    model = train_language_model(train, validation, SPEC, real=train, units=67, seen=36_000, progress=progress)
    exact = math.exp(entropy(test))
    assert exact * 0.995 < perplexity(model, test) < exact * 1.08
    assert epochs == list(range(1, len(epochs) + 1))
    assert perplexity(model, validation) == pytest.approx(min(values))
    assert len(epochs) == min(12, 1 + values.index(min(values)) + PATIENCE)
    assert perplexity(model, TokenStore.from_rows([[9, 8, 9], [8]])) > 100, "words outside the language"


def test_the_same_seed_gives_the_same_model() -> None:
    (first, validation), (second, _) = small_model(seed=3), small_model(seed=3)
    assert perplexity(first, validation) == perplexity(second, validation)


def test_padding_changes_nothing() -> None:
    """Nats and features of a sentence do not depend on the others in its batch."""
    torch.manual_seed(0)
    model, store = LanguageModel(SPEC, 7, np.arange(SPEC.vocabulary)).eval(), language(13, 5)
    nats = 0.0
    with torch.no_grad():
        for i in range(len(store)):
            batch = store.batch(np.array([i]), SPEC)
            hidden, _ = model.lstm(model.embedding(batch.source))
            logs = model.output.log_prob(hidden[0])
            nats -= float(logs.gather(1, model.by_frequency[batch.target[0]][:, None]).sum())
            expected = hidden[0].mean(0).double().numpy()
            assert sentence_features(model, store)[i] == pytest.approx(expected, abs=1e-6)
    assert perplexity(model, store) == pytest.approx(math.exp(nats / (len(store.ids) + len(store))), rel=1e-5)


@pytest.mark.parametrize("entries", [5, 11, COMMON, COMMON + 1, RARE + 7])
def test_probabilities_sum_to_one_for_any_number_of_clusters(entries: int) -> None:
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


def test_clusters_follow_the_frequencies_of_real_text() -> None:
    spec = TextSpec(COMMON + 2)
    real = TokenStore.from_rows([[COMMON]] * 3 + [[COMMON + 1]] * 2)
    samples = TokenStore.from_rows([[5, 7], [5, 11], [5]])
    model = train_language_model(samples, samples, spec, units=3, seen=3, real=real)
    assert model.by_frequency[[spec.end, COMMON, COMMON + 1]].tolist() == [0, 1, 2]


def test_empty_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="needs training and validation sentences"):
        train_language_model(TokenStore.from_rows([]), language(3, 1), SPEC, real=language(3, 1))
    with pytest.raises(ValueError, match="at least one sentence"):
        perplexity(LanguageModel(SPEC, 5), TokenStore.from_rows([]))


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
    with pytest.raises(ValueError, match="at least two sentences"):
        frechet_distance(a, b[:1])


def test_the_learning_rate_decays_linearly_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, epochs = list[float](), list[int]()

    class Recording(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Recording)
    small_model(progress=lambda _, all_, __: epochs.append(all_))
    steps = len(rates) // len(epochs) * epochs[0]
    assert rates == pytest.approx([RATE * (1 - step / steps) for step in range(len(rates))])


def test_dropout_is_active_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training also leaves the caller's random state unchanged."""
    modes, nll, epochs = list[bool](), LanguageModel.nll, list[int]()

    def recording(model: LanguageModel, batch: Any) -> Any:
        modes.append(model.training)
        return nll(model, batch)

    before = torch.get_rng_state()
    with monkeypatch.context() as patched:
        patched.setattr(LanguageModel, "nll", recording)
        model, validation = small_model(progress=lambda epoch, *_: epochs.append(epoch))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(epochs) > 1 and modes == [True, True, False] * len(epochs), "two training batches, one of validation"
    for measure in (perplexity, sentence_features):
        first = measure(model.train(), validation)
        assert np.array_equal(first, measure(model.train(), validation))
