"""A trained model in use: decoding, sampling, interpolation, attribute transfer, and refusals."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arae_core.codecs.lstm import LSTMDecoder
from arae_core.codecs.lstm_per_class import SeparateDecoders
from arae_core.codecs.text import ROWS
from arae_core.codes.paths import great_circle
from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.decoding import decode_sentences
from arae_core.model import Model
from arae_core.settings import VocabularySettings
from arae_core.training.loop import train
from arae_core.training.state import TrainingState
from tests.arae_core import small
from tests.arae_core.small import SHAPES, TEXT, assert_same, image_settings, normal, text_settings, trained, weights


def sharp_decoder(**biases: float) -> LSTMDecoder:
    """Return a decoder with peaked distributions that ends most sentences early. biases: of special tokens, by name."""
    decoder = LSTMDecoder(text_settings(), TEXT).double()
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.normal_(0, 1, generator=draws)
        decoder.output.weight.mul_(2)
        decoder.output.bias[TEXT.end].add_(1)
        for name, bias in biases.items():
            decoder.output.bias[getattr(TEXT, name)] = bias
    return decoder


DECODER = sharp_decoder()


def decode(
    code: Tensor, longest: int = 7, temperature: float = 0.0, decoder: LSTMDecoder = DECODER, spec: TextSpec = TEXT
) -> list[list[int]]:
    return decode_sentences(decoder, code, None, spec, longest, temperature, torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_of(
    decoder: Any, words: list[int], code: Tensor, label: int | None = None, start: int = TEXT.start
) -> Tensor:
    """Return the logits [T + 1, V] after the start token and each of T words, in one pass over all of them."""
    part = decoder.decoder_of(label or 0) if isinstance(decoder, SeparateDecoders) else decoder
    fed = part.conditioned(code[None], None if label is None else torch.tensor([label]))
    hidden, _ = part(torch.tensor([[start, *words]]), fed)
    logits: Tensor = part.output(hidden[0])
    return logits


def chances(words: list[int], code: Tensor, temperature: float = 1.0) -> Tensor:
    """Return p(next word | words, code), [V]."""
    logits = logits_of(DECODER, words, code)[-1] / temperature
    logits[[TEXT.pad, TEXT.start]] = -torch.inf
    return logits.softmax(0)


@pytest.mark.parametrize(
    ("conditioning", "contrast"),
    [("", 0.0), *((name, contrast) for name in ("embedding", "separate") for contrast in (0.0, 0.4, 3.0))],
)
def test_greedy_decoding_takes_the_best_word_each_time(conditioning: str, contrast: float) -> None:
    """Compared with words chosen one by one, for which the decoder of each class reads all words before."""
    count, spec, labels = 97, TEXT, None
    decoder: Any = DECODER
    if conditioning:
        count, spec = 23, SHAPES["three"]
        changes, labels = {"decoder.conditioning": conditioning}, torch.arange(count) % 3
        decoder = small.new_state(text_settings(changes), "three").modules["decoder"]
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.mul_(4)
    codes = normal(count, 7, 11)
    expected = []
    for i, code in enumerate(codes):
        row: list[int] = []
        while len(row) < 7:
            own, *others = (
                logits_of(decoder, row, code, (i + k) % 3 if conditioning else None)[-1].log_softmax(0)
                for k in range(3 if conditioning else 1)
            )
            score = own + contrast * (own - sum(others) / 2)
            score[[TEXT.pad, TEXT.start]] = -torch.inf
            if (word := int(score.argmax())) == TEXT.end:
                break
            row.append(word)
        expected.append(row)
    cold = () if conditioning else (1e-3, 1e-30, 5e-324)
    with patch.object(nn.LSTM, "forward", autospec=True, side_effect=nn.LSTM.forward) as lstm:
        found, plain, *colder = (
            decode_sentences(decoder, codes, labels, spec, 7, temperature, torch.Generator(), gamma)
            for temperature, gamma in ((0.0, contrast), (0.0, 0.0), *((t, 0.0) for t in cold))
        )
    assert found == expected
    assert colder == [found] * len(cold), "very low temperatures are greedy"
    assert (found == plain) == (contrast == 0)
    sizes = {len(call.args[1]) for call in lstm.call_args_list}
    assert all(size % ROWS == 0 for size in sizes - {count}), "batches shrink by multiples of ROWS"
    assert conditioning or len(sizes) > 2 < len(set(map(len, found))), "rows end at different places"


def test_sampled_words_have_the_probabilities_of_the_model() -> None:
    """Chi-square test over all pairs of a first and a second word, with the end token."""
    count, temperature, code = 4000, 5.0, normal(1, 7, 11)[0]
    expected = torch.zeros(TEXT.vocabulary, TEXT.vocabulary, dtype=torch.float64)
    for first, chance in enumerate(chances([], code, temperature)):
        expected[first] = chance * chances([first], code, temperature)
        if first == TEXT.end:
            expected[first] = torch.eye(TEXT.vocabulary, dtype=torch.float64)[TEXT.end] * chance
    found = torch.zeros_like(expected)
    for row in decode(code.expand(count, -1), longest=2, temperature=temperature):
        first, second = [*row, TEXT.end, TEXT.end][:2]
        found[first, second] += 1
    common = expected * count >= 5
    statistic = float(((found - expected * count) ** 2 / (expected * count))[common].sum())
    freedom = int(common.sum())
    assert freedom > 20 and found[expected == 0].sum() == 0
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5, (statistic, freedom)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("end", "length"), [(-90.0, 5), (80.0, 0)])
def test_special_tokens_are_never_written(temperature: float, end: float, length: int) -> None:
    decoder = sharp_decoder(pad=90.0, start=90.0, end=end)
    rows = decode(normal(13, 7), 5, temperature, decoder=decoder)
    assert {len(row) for row in rows} == {length}
    assert not {TEXT.pad, TEXT.start, TEXT.end} & {word for row in rows for word in row}


@pytest.mark.parametrize(("pad", "start"), [(0, 1), (16, 15)])
@pytest.mark.parametrize("point", [0.0, 1 - 2**-24])
def test_extreme_random_numbers_draw_no_special_token(
    pad: int, start: int, point: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Special tokens have probability 0 and may stand at either end of the vocabulary."""
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, point))
    rows = decode(normal(997, 7), temperature=9.0, spec=TextSpec(vocabulary=17, pad=pad, start=start, end=5))
    assert not {pad, start} & {word for row in rows for word in row}


SENTENCES = [
    "the dog runs .",
    "a cat sleeps",
    "who runs ?",
    "the old cat sees the dog .",
    "dog",
    "a small bird sleeps .",
]
VOCABULARY = Vocabulary.train(SENTENCES, VocabularySettings())


@pytest.fixture(scope="module")
def text_model() -> Model:
    """A plain autoencoder overfitted to six sentences."""
    changes = {"critic.objective": "none", "batch_size": 6, "code.noise": 0.0, "temperature": 0.0}
    rates = {"encoder.learning_rate": 0.02, "decoder.learning_rate": 0.02}
    state = TrainingState.new(text_settings(changes | rates), VOCABULARY.spec)
    list(train(state, TokenStore.from_rows(VOCABULARY.encode(SENTENCES)), until=200, every=200))
    return Model(state, VOCABULARY)


@pytest.fixture(scope="module")
def image_model() -> Model:
    """A model with large random weights: different codes have different most probable pixels."""
    state = trained(image_settings({"generator.average": 0.9}), 3)
    with torch.no_grad():
        for module in (state.modules["average"], state.modules["decoder"]):
            for weight in module.parameters():
                weight.normal_(0, 1, generator=torch.Generator().manual_seed(weight.numel()))
    return Model(state, None)


def test_sentences_are_reconstructed_in_their_order(text_model: Model) -> None:
    assert text_model.reconstruct(SENTENCES) == SENTENCES
    assert text_model.reconstruct(SENTENCES[::-1], batch_size=2) == SENTENCES[::-1]
    assert text_model.reconstruct([]) == [] == text_model.generate(0)
    assert len(text_model.reconstruct(["unheard words here", ""])) == 2
    codes = text_model.encode(SENTENCES, batch_size=2)
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, text_model.encode(SENTENCES), atol=1e-6)
    assert text_model.encode([]).shape == (0, 7) == text_model.sample_codes(0).shape
    path = text_model.interpolate(SENTENCES[0], SENTENCES[4], 5)
    assert (path[0], path[-1], len(path)) == (SENTENCES[0], SENTENCES[4], 5)
    assert text_model.interpolate(SENTENCES[0], SENTENCES[0], 2) == [SENTENCES[0]] * 2
    assert len(text_model.interpolate_noise(3, seed=1)) == 3


def test_samples_depend_on_seed_and_temperature_alone(text_model: Model, image_model: Model) -> None:
    for model in (text_model, image_model):
        before, state = weights(model.state), torch.random.get_rng_state()
        first, warm, other = (model.generate(40, seed=s, temperature=t) for s, t in ((1, 0.0), (1, 1.0), (2, 0.0)))
        assert not np.array_equal(first, warm) and not np.array_equal(first, other)
        assert np.array_equal(warm, model.generate(40, seed=1, temperature=1.0))
        assert not np.array_equal(warm, model.generate(40, seed=2, temperature=1.0))
        assert np.array_equal(model.generate(40, seed=1), model.generate(40, seed=1, temperature=0.0, batch_size=7))
        assert_same(before, weights(model.state))
        assert torch.equal(state, torch.random.get_rng_state())
    assert text_model.generate(5, seed=3) == VOCABULARY.decode(text_model.generate_ids(5, seed=3))


def test_images_are_bytes_of_0_and_1(image_model: Model) -> None:
    pixels = np.random.default_rng(1).integers(0, 2, (11, 3, 5), np.uint8)
    first, second = pixels[:2]
    for drawn, count in (
        (image_model.generate(11), 11),
        (image_model.generate(11, temperature=0.7), 11),
        (image_model.generate(0), 0),
        (image_model.reconstruct(pixels, batch_size=4), 11),
        (image_model.reconstruct(pixels[:0]), 0),
        (image_model.interpolate(first, second, 5), 5),
        (image_model.interpolate_noise(5), 5),
    ):
        assert isinstance(drawn, np.ndarray)
        assert (drawn.shape, str(drawn.dtype)) == ((count, 3, 5), "uint8")
        assert set(np.unique(drawn)) <= {0, 1}
    assert image_model.encode(pixels).shape == (11, 7)
    assert (image_model.image_size, image_model.kind) == ((3, 5), "image")
    ends = image_model.interpolate(first, second, 4)
    assert np.array_equal([ends[0], ends[-1]], image_model.reconstruct(pixels[:2]))


def test_sampled_pixels_have_the_probabilities_of_the_model(image_model: Model) -> None:
    one = np.ones((1, 3, 5), np.uint8)
    with torch.no_grad():
        logits = image_model.state.decoder(torch.from_numpy(image_model.encode(one)).double())  # type: ignore[operator]
    drawn = image_model.reconstruct(one.repeat(4000, 0), temperature=0.5)
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_allclose(drawn.mean(0).flatten(), (logits / 0.5).sigmoid()[0], atol=0.04)


def test_samples_come_from_the_moving_average(image_model: Model) -> None:
    state = image_model.state
    changed = small.new_state(state.settings)
    changed.modules.load_state_dict(state.modules.state_dict())
    with torch.no_grad():
        for weight in changed.modules["prior"].parameters():
            weight.zero_()
    assert np.array_equal(Model(changed, None).generate(11), image_model.generate(11))
    generated = image_model.generate(7, seed=3, temperature=0.0)
    assert np.array_equal(image_model.decode(image_model.sample_codes(7, seed=3)), generated)


def test_bad_arguments_are_refused(text_model: Model, image_model: Model) -> None:
    square = np.zeros((3, 5), np.uint8)
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: text_model.generate(-1), "count must be >= 0, got -1"),
        (lambda: text_model.generate(1, temperature=-1), "temperature must be >= 0, got -1"),
        (lambda: text_model.generate(1, temperature=float("inf")), "temperature must be"),
        (lambda: image_model.generate(1, temperature=float("nan")), "temperature must be >= 0, got nan"),
        (lambda: text_model.interpolate("a", "b", 1), "steps must be >= 2, got 1"),
        (lambda: text_model.interpolate_noise(1), "steps must be >= 2, got 1"),
        (lambda: text_model.interpolate("a", square, 3), "both ends"),
        (lambda: text_model.reconstruct(square[None]), "sentences; it reads no images"),
        (lambda: image_model.reconstruct(["a"]), "images; it reads no sentences"),
        (lambda: image_model.encode(255 * square[None] + 255), "pixels must be 0 or 1, got up to 255"),
        (lambda: text_model.most_probable_class(["a"]), "attribute, got 'no classes'"),
        (lambda: image_model.encode(np.zeros((1, 5, 3), np.uint8)), r"images must be \(3, 5\) pixels, got \(5, 3\)"),
        (lambda: Model(text_model.state, None), "needs its vocabulary"),
        (lambda: image_model.generate(1, attribute="up"), "attribute .* got 'up'"),
        (lambda: text_model.generate(1, attribute="up"), "attribute .* got 'up'"),
        (lambda: text_model.generate(3, batch_size=0), "batch_size must be >= 1, got 0"),
        (lambda: text_model.shift(["a"], np.zeros(3, np.float32)), "offset must be"),
    ]
    for attempt, message in refusals:
        with pytest.raises(ValueError, match=message):
            attempt()


@pytest.fixture(scope="module", params=["embedding", "separate"])
def polar(request: pytest.FixtureRequest) -> Model:
    """A model of sentences with one noun each, in two classes that differ in their adjectives alone."""
    nouns = ("dog", "cat", "man", "hat", "bus")
    texts = [f"the {a} {n}" for a in (*GOOD, *BAD) for n in nouns]
    vocabulary = Vocabulary.train(texts, VocabularySettings(tokenizer="spaces"))
    spec = replace(vocabulary.spec, classes=("down", "up"))
    changes = {"precision": "float32", "decoder.conditioning": request.param, "critic.objective": "none"}
    rates = {f"{part}.learning_rate": 1e-2 for part in ("encoder", "decoder", "classifier")}
    sizes = {"encoder.hidden": (23,), "decoder.hidden": (23,), "code.noise": 0.05}
    state = TrainingState.new(text_settings(changes | rates | sizes), spec)
    store = TokenStore.from_rows(vocabulary.encode(texts), [int(i < 15) for i in range(30)])
    list(train(state, store, until=200, every=200))
    return Model(state, vocabulary)


GOOD, BAD = ("good", "nice", "fine"), ("bad", "poor", "sad")


def has(adjectives: tuple[str, ...], text: object) -> bool:
    return not set(adjectives).isdisjoint(str(text).split())


def test_transfer_changes_the_class_and_keeps_the_noun(polar: Model) -> None:
    texts = [f"the bad {noun}" for noun in ("dog", "cat", "man", "hat", "bus")]
    to_up, to_down = polar.transfer(texts, "up"), polar.transfer(texts, "down")
    assert sum(has(GOOD, text) for text in to_up) >= 4
    assert sum(has(BAD, text) for text in to_down) >= 4
    if polar.settings.decoder.conditioning == "embedding":  # separate decoders need not agree on the code
        assert sum(a.split()[-1] == b.split()[-1] for a, b in zip(texts, to_up, strict=True)) >= 4
    assert polar.most_probable_class(["the bad cat", "the fine bus", "the sad man"]) == ["down", "up", "down"]


def test_samples_and_reconstructions_have_the_requested_class(polar: Model) -> None:
    up = polar.generate(40, attribute="up", seed=3)
    assert sum(has(GOOD, text) for text in up) >= 36
    mixed = polar.generate(40, seed=3)
    assert 12 <= sum(has(GOOD, text) for text in mixed) <= 28
    assert mixed[1::2] == up[1::2], "classes take turns on the same codes"
    assert polar.generate(23, seed=3, batch_size=5) == polar.generate(23, seed=3, batch_size=23)
    good, bad = polar.reconstruct(["the fine bus", "the poor dog"])
    assert has(GOOD, good) and has(BAD, bad)
    for steps, half in ((2, 1), (4, 2), (5, 3)):
        path = polar.interpolate("the bad dog", "the nice dog", steps)
        assert [has(GOOD, text) for text in path] == [False] * half + [True] * (steps - half)
    assert len(polar.interpolate_noise(3)) == 3


def test_bad_attributes_are_refused(polar: Model) -> None:
    with pytest.raises(ValueError, match="attribute must be one of down, up, got 'left'"):
        polar.transfer(["the bad dog"], "left")
    with pytest.raises(ValueError, match=r"attribute must be one, .* got 2"):
        polar.transfer(["the bad dog"], ["up", "down"])
    with pytest.raises(ValueError, match="contrast must be from 0 to "):
        polar.transfer(["the bad dog"], "up", contrast=-1)


def test_temperature_and_contrast_of_the_settings_are_the_default(
    polar: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, settings = ["the bad dog", "a good cat", "the good house"], polar.settings
    plain, greedy = polar.transfer(texts, "up"), polar.generate(40, seed=1)
    assert plain == polar.transfer(texts, "up", contrast=0.0) and greedy == polar.generate(40, seed=1, temperature=0.0)
    changed = replace(settings, temperature=1.0, decoder=replace(settings.decoder, contrast=50.0))
    monkeypatch.setattr(polar.state, "settings", changed)
    assert polar.transfer(texts, "up") == polar.transfer(texts, "up", contrast=50.0) != plain
    for draw in (polar.generate, polar.generate_ids):
        assert draw(40, seed=1) == draw(40, seed=1, temperature=1.0) != draw(40, seed=1, temperature=0.0)


def test_the_most_probable_class_has_the_greatest_likelihood(polar: Model) -> None:
    """p(x | c, y) is computed for each sentence alone."""
    state, vocabulary = polar.state, polar.vocabulary
    assert vocabulary is not None and isinstance(state.spec, TextSpec)
    for text in ("the bad cat", "cat the the good", "nice"):
        (row,) = vocabulary.encode([text])
        (code,) = torch.from_numpy(polar.encode([text]))
        nats = []
        for y in (0, 1):
            chance = logits_of(state.decoder, row, code, y, state.spec.start).log_softmax(1)
            nats.append(-sum(float(chance[i, word]) for i, word in enumerate([*row, state.spec.end])))
        assert polar.most_probable_class([text]) == [polar.classes[nats.index(min(nats))]]


def test_use_leaves_batch_normalization_alone() -> None:
    """A model that is still in training is used with the running statistics and does not update them."""
    parts = ("encoder", "decoder", "generator")
    model = Model(trained(image_settings({f"{part}.normalization": "batch" for part in parts}), 3), None)
    before, pixels = weights(model.state), small.images().pixels.reshape(-1, 3, 5)
    for use in (
        lambda: model.generate(7),
        lambda: model.sample_codes(7),
        lambda: model.encode(pixels),
        lambda: model.reconstruct(pixels),
        lambda: model.interpolate_noise(5),
    ):
        model.state.modules.train()
        use()
        assert_same(before, weights(model.state))


@pytest.fixture(scope="module", params=["sphere", "euclidean"])
def untrained(request: pytest.FixtureRequest) -> Model:
    changes = {"code.kind": request.param, "generator.output": "sphere" if request.param == "sphere" else "linear"}
    return Model(TrainingState.new(text_settings(changes), VOCABULARY.spec), VOCABULARY)


def test_an_offset_leads_from_one_mean_code_to_the_other(untrained: Model) -> None:
    """A shifted code is mapped back to the code space."""
    here, there, codes = SENTENCES[:2], SENTENCES[2:5], untrained.encode
    offset = untrained.offset(here, there)
    assert offset.dtype == np.float32 and np.abs(offset).max() > 1e-3
    np.testing.assert_allclose(offset, codes(there).mean(0) - codes(here).mean(0), atol=1e-6)
    with patch("arae_core.model.decode_sentences", return_value=[[]]) as decoded:
        untrained.shift([SENTENCES[0]], untrained.offset([SENTENCES[0]], [SENTENCES[4]]))
        untrained.shift([SENTENCES[0]], 3 * offset)
    target, far = codes([SENTENCES[4]])[0], codes([SENTENCES[0]])[0] + 3 * offset
    far = far / np.linalg.norm(far) if untrained.settings.code.kind == "sphere" else far
    found = [call.args[1][0].numpy() for call in decoded.call_args_list]
    np.testing.assert_allclose(found, [target, far], atol=1e-5)


def test_noise_is_interpolated_on_a_great_circle(untrained: Model) -> None:
    """The middle of a straight line would be shorter than any noise of training."""
    prior: Any = untrained.state.prior
    with patch.object(prior, "forward", wraps=prior.forward) as drawn:
        untrained.interpolate_noise(5, seed=3)
    first, last = untrained._noise(2, torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn.call_args.args[0], great_circle(first, last, 5))
