"""A trained model in use: what it writes is what the probabilities say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arae_core.codecs.lstm import LSTMDecoder
from arae_core.codecs.lstm_per_class import SeparateDecoders
from arae_core.codecs.text import ROWS
from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from arae_core.data.vocabulary import Vocabulary
from arae_core.decoding import decode_sentences
from arae_core.model import Model
from arae_core.settings import VocabularySettings
from arae_core.training.loop import train
from arae_core.training.state import TrainingState
from tests.arae_core.small import (
    TEXT,
    THREE,
    assert_same,
    image_settings,
    images,
    new_state,
    text_settings,
    trained,
    weights,
)


def sharp_decoder() -> LSTMDecoder:
    """A decoder that is sure of what it says and ends most sentences early."""
    decoder = LSTMDecoder(text_settings(), TEXT).double()
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.normal_(0, 1, generator=draws)
        decoder.output.weight.mul_(2)
        decoder.output.bias[TEXT.end].add_(1)
    return decoder


DECODER = sharp_decoder()


def codes(count: int) -> Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def decode(code: Tensor, longest: int = 7, temperature: float = 0.0, seed: int = 1) -> list[list[int]]:
    return decode_sentences(DECODER, code, None, TEXT, longest, temperature, torch.Generator().manual_seed(seed))


@torch.no_grad()
def chances(prefix: list[int], code: Tensor, temperature: float = 1.0) -> Tensor:
    """p(next word | prefix, code), by running the decoder over the whole prefix again."""
    hidden, _ = DECODER(torch.tensor([[TEXT.start, *prefix]]), code[None])
    logits = DECODER.output(hidden[0, -1:])[0] / temperature
    logits[[TEXT.pad, TEXT.start]] = -torch.inf
    chance: Tensor = logits.softmax(0)
    return chance


def test_greedy_decoding_takes_the_most_probable_word_each_time() -> None:
    expected = []
    for code in codes(97):
        row: list[int] = []
        while len(row) < 7 and (word := int(chances(row, code).argmax())) != TEXT.end:
            row.append(word)
        expected.append(row)
    rows = decode(codes(97))
    assert rows == expected
    assert len(set(map(len, rows))) > 3, "rows that end at different places leave the batch without disorder"


def test_batches_that_sentences_leave_are_of_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiple of ROWS, but for the first."""
    sizes, forward = list[int](), DECODER.forward

    def watched(words: Tensor, *rest: Any) -> Any:
        sizes.append(len(words))
        return forward(words, *rest)

    monkeypatch.setattr(DECODER, "forward", watched)
    decode(codes(97))
    assert sizes[0] == 97 and len(set(sizes)) > 2
    assert all(size % ROWS == 0 for size in sizes if size < 97)


def test_drawn_words_have_the_probabilities_of_the_model() -> None:
    """Chi-square over all pairs of a first and a second word, the end mark among them."""
    count, temperature, code = 4000, 5.0, codes(1)[0]
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
    pairs = [
        (found[common], expected[common] * count),
        (found[~common].sum()[None], expected[~common].sum()[None] * count),
    ]
    statistic = sum(float(((f - e) ** 2 / e).sum()) for f, e in pairs)
    freedom = int(common.sum())
    tail = torch.special.gammaincc(torch.tensor(freedom / 2), torch.tensor(statistic / 2))
    assert freedom > 20
    assert tail > 1e-3, f"chi-square {statistic:.1f} with {freedom} degrees of freedom"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_marks_ends_and_length(temperature: float) -> None:
    biases = {TEXT.pad: 90.0, TEXT.start: 90.0}
    for end, lengths in ((-90.0, {5}), (80.0, {0})):
        decoder = sharp_decoder()
        with torch.no_grad():
            for mark, bias in (biases | {TEXT.end: end}).items():
                decoder.output.bias[mark] = bias
        rows = decode_sentences(decoder, codes(13), None, TEXT, 5, temperature, torch.Generator().manual_seed(1))
        assert {len(row) for row in rows} == lengths
        assert not {TEXT.pad, TEXT.start, TEXT.end} & {word for row in rows for word in row}


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 5e-324])
def test_the_coldest_draws_are_greedy(temperature: float) -> None:
    assert decode(codes(13), temperature=temperature) == decode(codes(13))


@pytest.mark.parametrize(("pad", "start"), [(0, 1), (16, 15)])
def test_a_mark_of_no_chance_is_drawn_at_neither_end_of_the_vocabulary(
    pad: int, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number drawn may be 0, or so near 1 that it rounds to it."""
    spec = TextSpec(vocabulary=17, pad=pad, start=start, end=5)
    for point in (0.0, 1 - 2**-24):
        monkeypatch.setattr(torch, "rand", lambda *size, point=point, **_: torch.full(size, point))
        rows = decode_sentences(DECODER, codes(997), None, spec, 7, 9.0, torch.Generator())
        assert not {pad, start} & {word for row in rows for word in row}, point


def test_the_seed_decides_what_is_drawn() -> None:
    first, again, other = (decode(codes(13), temperature=1.5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


SENTENCES = [
    "the dog runs .",
    "a cat sleeps",
    "who runs ?",
    "the old cat sees the dog .",
    "dog",
    "a small bird sleeps .",
]


@pytest.fixture(scope="module")
def text_model() -> Model:
    """A plain autoencoder that knows six sentences by heart."""
    changes = {"critic.objective": "none", "batch_size": 6, "code.noise": 0.0, "temperature": 0.0}
    rates = {"encoder.learning_rate": 0.02, "decoder.learning_rate": 0.02}
    vocabulary = Vocabulary.train(SENTENCES, VocabularySettings())
    state = TrainingState.new(text_settings(changes | rates), vocabulary.spec)
    for _ in train(state, TokenStore.from_rows(vocabulary.encode(SENTENCES)), until=200, every=200):
        pass
    return Model(state, vocabulary)


@pytest.fixture(scope="module")
def image_model() -> Model:
    """Untrained but sure of itself, so that codes differ in what is most probable."""
    state = trained(image_settings({"generator.average": 0.9}), 3)
    with torch.no_grad():
        for module in (state.modules["average"], state.modules["decoder"]):
            for weight in module.parameters():
                weight.normal_(0, 1, generator=torch.Generator().manual_seed(weight.numel()))
    return Model(state, None)


def test_sentences_come_back_in_the_order_they_went_in(text_model: Model) -> None:
    assert text_model.reconstruct(SENTENCES) == SENTENCES
    assert text_model.reconstruct(SENTENCES[::-1], batch_size=2) == SENTENCES[::-1]
    assert text_model.reconstruct([]) == []
    assert len(text_model.reconstruct(["unheard words here", ""])) == 2
    assert text_model.encode(SENTENCES, batch_size=2).dtype == np.float32
    np.testing.assert_allclose(text_model.encode(SENTENCES, batch_size=2), text_model.encode(SENTENCES), atol=1e-6)
    assert text_model.encode([]).shape == (0, 7)


def test_an_interpolation_goes_from_one_sentence_to_the_other(text_model: Model) -> None:
    path = text_model.interpolate(SENTENCES[0], SENTENCES[4], 5)
    assert (path[0], path[-1], len(path)) == (SENTENCES[0], SENTENCES[4], 5)
    assert len(text_model.interpolate_noise(3, seed=1)) == 3
    assert text_model.interpolate(SENTENCES[0], SENTENCES[0], 2) == [SENTENCES[0]] * 2


def test_samples_follow_from_seed_and_temperature(text_model: Model, image_model: Model) -> None:
    for model in (text_model, image_model):
        before, state = weights(model.state), torch.random.get_rng_state()
        samples = [model.generate(40, seed=seed, temperature=t) for seed, t in ((1, 0.0), (1, 0.0), (2, 0.0), (1, 1.0))]
        assert np.array_equal(samples[0], samples[1])
        assert not np.array_equal(samples[0], samples[2]) and not np.array_equal(samples[0], samples[3])
        assert np.array_equal(model.generate(40, seed=1), model.generate(40, seed=1, temperature=0.0, batch_size=7))
        assert len(model.generate(0)) == 0
        assert all(torch.equal(before[name], value) for name, value in weights(model.state).items())
        assert torch.equal(state, torch.random.get_rng_state())
    assert text_model.vocabulary is not None
    assert text_model.generate(5, seed=3) == text_model.vocabulary.decode(text_model.generate_ids(5, seed=3))


def test_none_are_none(text_model: Model) -> None:
    assert text_model.generate(0) == [] and text_model.sample_codes(0).shape == (0, text_model.settings.code.size)


def test_images_are_bytes_of_their_size(image_model: Model) -> None:
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


def test_drawn_pixels_have_the_probabilities_of_the_model(image_model: Model) -> None:
    one = np.ones((1, 3, 5), np.uint8)
    with torch.no_grad():
        logits = image_model.state.decoder(torch.from_numpy(image_model.encode(one)).double())  # type: ignore[operator]
    drawn = image_model.reconstruct(one.repeat(4000, 0), temperature=0.5)
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_allclose(drawn.mean(0).flatten(), (logits / 0.5).sigmoid()[0], atol=0.04)


def test_samples_come_from_the_moving_average(image_model: Model) -> None:
    state = image_model.state
    assert state.sampler is state.modules["average"] and state.sampler is not state.prior
    moved = new_state(state.settings)
    moved.modules.load_state_dict(state.modules.state_dict())
    with torch.no_grad():
        for weight in moved.modules["prior"].parameters():
            weight.zero_()
    assert np.array_equal(Model(moved, None).generate(11), image_model.generate(11))


def test_what_cannot_be_done_is_refused(text_model: Model, image_model: Model) -> None:
    square = np.zeros((3, 5), np.uint8)
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: text_model.generate(-1), "count must be >= 0, got -1"),
        (lambda: text_model.generate(1, temperature=-1), "temperature must be >= 0, got -1"),
        (lambda: text_model.generate(1, temperature=float("inf")), "temperature must be"),
        (lambda: image_model.generate(1, temperature=float("nan")), "temperature must be >= 0, got nan"),
        (lambda: text_model.interpolate("a", "b", 1), "steps must be >= 2, got 1"),
        (lambda: text_model.interpolate_noise(1), "steps must be >= 2, got 1"),
        (lambda: text_model.interpolate("a", square, 3), "both ends"),
        (lambda: text_model.reconstruct(square[None]), "one of sentences; it reads no images"),
        (lambda: image_model.reconstruct(["a"]), "one of images; it reads no sentences"),
        (lambda: image_model.encode(255 * square[None] + 255), "pixels must be 0 or 1, got up to 255"),
        (lambda: text_model.most_probable_class(["a"]), "the model must be one with an attribute, got 'no classes'"),
        (lambda: image_model.encode(np.zeros((1, 5, 3), np.uint8)), r"images must be \(3, 5\) pixels, got \(5, 3\)"),
        (lambda: Model(text_model.state, None), "needs its vocabulary"),
        (lambda: image_model.generate(1, attribute="up"), "the attribute must be left out"),
        (lambda: text_model.generate(3, batch_size=0), "batch_size must be >= 1, got 0"),
        (lambda: text_model.shift(["a"], np.zeros(3, np.float32)), "offset must be"),
    ]
    for attempt, message in refusals:
        with pytest.raises(ValueError, match=message):
            attempt()


@pytest.fixture(scope="module", params=["embedding", "separate"])
def polar(request: pytest.FixtureRequest) -> Model:
    """Trained on sentences of one noun in two classes, which differ in their adjectives alone."""
    good, bad = ("good", "nice", "fine"), ("bad", "poor", "sad")
    nouns = ("dog", "cat", "man", "hat", "bus")
    texts = [f"the {a} {n}" for side in (good, bad) for a in side for n in nouns]
    vocabulary = Vocabulary.train(texts, VocabularySettings(tokenizer="spaces"))
    spec = replace(vocabulary.spec, classes=("down", "up"))
    changes = {"precision": "float32", "decoder.conditioning": request.param, "encoder.attribute_weight": 1.0}
    rates = {f"{part}.learning_rate": 1e-2 for part in ("encoder", "decoder", "classifier")}
    sizes = {"encoder.hidden": (23,), "decoder.hidden": (23,), "code.noise": 0.05, "encoder.adversarial_weight": 0.05}
    state = TrainingState.new(text_settings(changes | rates | sizes), spec)
    store = TokenStore.from_rows(vocabulary.encode(texts), [int(i < 15) for i in range(30)])
    for _ in train(state, store, until=400, every=400):
        pass
    return Model(state, vocabulary)


GOOD, BAD = {"good", "nice", "fine"}, {"bad", "poor", "sad"}


def test_transfer_changes_the_class_and_keeps_the_noun(polar: Model) -> None:
    texts = [f"the bad {noun}" for noun in ("dog", "cat", "man", "hat", "bus")]
    to_up, to_down = polar.transfer(texts, "up"), polar.transfer(texts, "down")
    assert sum(bool(GOOD & set(text.split())) for text in to_up) >= 4
    assert sum(bool(BAD & set(text.split())) for text in to_down) >= 4
    if polar.settings.decoder.conditioning == "embedding":  # decoders of their own need not agree on what is where
        assert sum(a.split()[-1] == b.split()[-1] for a, b in zip(texts, to_up, strict=True)) >= 4
    assert polar.most_probable_class(["the bad cat", "the fine bus", "the sad man"]) == ["down", "up", "down"]


def test_samples_and_reconstructions_have_the_class_asked_for(polar: Model) -> None:
    up = polar.generate(40, attribute="up", seed=3)
    assert sum(bool(GOOD & set(str(text).split())) for text in up) >= 36
    mixed = polar.generate(40, seed=3)
    assert 12 <= sum(bool(GOOD & set(str(text).split())) for text in mixed) <= 28
    assert mixed[1::2] == polar.generate(40, attribute="up", seed=3)[1::2], "classes in turn, of the same codes"
    back = polar.reconstruct(["the fine bus", "the poor dog"])
    assert GOOD & set(str(back[0]).split()) and BAD & set(str(back[1]).split())
    path = polar.interpolate("the bad dog", "the nice dog", 4)
    assert [bool(GOOD & set(str(text).split())) for text in path] == [False, False, True, True]
    assert len(polar.interpolate_noise(3)) == 3


def test_unknown_attributes_are_refused_with_those_there_are(polar: Model) -> None:
    with pytest.raises(ValueError, match="the attribute must be one of down, up, got 'left'"):
        polar.transfer(["the bad dog"], "left")
    with pytest.raises(ValueError, match="attribute must be one, or one for each of 1, got 2"):
        polar.transfer(["the bad dog"], ["up", "down"])
    plain = Model(new_state(text_settings()), Vocabulary.train(["a b c"], VocabularySettings(tokenizer="spaces")))
    with pytest.raises(ValueError, match="the attribute must be left out: this model has no attribute, got 'up'"):
        plain.generate(1, attribute="up")


def test_the_likeliest_class_is_that_of_the_exact_sum(polar: Model) -> None:
    """Against p(x | c, y) computed word by word for each sentence alone."""
    texts = ["the bad cat", "cat the the good", "nice"]
    state, vocabulary = polar.state, polar.vocabulary
    assert vocabulary is not None and isinstance(state.spec, TextSpec)
    for text in texts:
        (row,) = vocabulary.encode([text])
        code = torch.from_numpy(polar.encode([text]))
        nats = []
        for y in (0, 1):
            ((decoder, _, fed),) = state.decoder.by_class(code, torch.tensor([y]))  # type: ignore[attr-defined]
            with torch.no_grad():
                hidden, _ = decoder(torch.tensor([[state.spec.start, *row]]), fed)
                chance = decoder.output(hidden[0]).log_softmax(1)
            nats.append(-sum(float(chance[i, word]) for i, word in enumerate([*row, state.spec.end])))
        assert polar.most_probable_class([text]) == [polar.classes[nats.index(min(nats))]]


@pytest.mark.parametrize("conditioning", ["embedding", "separate"])
@pytest.mark.parametrize("contrast", [0.0, 0.4, 3.0])
def test_contrast_weighs_the_class_asked_for_against_the_others(conditioning: str, contrast: float) -> None:
    """Against the words chosen one by one, every class's decoder run over the whole prefix again."""
    state = new_state(text_settings({"decoder.conditioning": conditioning}), "three")
    decoder, code, labels = state.decoder, codes(23), torch.arange(23) % 3
    assert isinstance(decoder, LSTMDecoder | SeparateDecoders)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(4)

    def nats(prefix: list[int], one: Tensor, y: int) -> Tensor:
        ((part, _, fed),) = decoder.by_class(one[None], torch.tensor([y]))
        hidden, _ = part(torch.tensor([[TEXT.start, *prefix]]), fed)
        chances: Tensor = part.output(hidden[0, -1:])[0].log_softmax(0)
        return chances

    expected = []
    with torch.no_grad():
        for one, y in zip(code, labels.tolist(), strict=True):
            row: list[int] = []
            while len(row) < 7:
                others = (nats(row, one, (y + 1) % 3) + nats(row, one, (y + 2) % 3)) / 2
                score = (1 + contrast) * nats(row, one, y) - contrast * others
                score[[TEXT.pad, TEXT.start]] = -torch.inf
                if (word := int(score.argmax())) == TEXT.end:
                    break
                row.append(word)
            expected.append(row)
    draws = torch.Generator()
    found = decode_sentences(decoder, code, labels, THREE, 7, 0.0, draws, contrast)
    assert found == expected
    plain = decode_sentences(decoder, code, labels, THREE, 7, 0.0, draws)
    assert (found == plain) == (contrast == 0)


def test_the_contrast_of_transfer_is_the_models_own_unless_said(polar: Model) -> None:
    texts = ["the bad dog", "a good cat", "the good house"]
    plain = polar.transfer(texts, "up")
    assert plain == polar.transfer(texts, "up", contrast=0.0)
    settings = polar.settings
    try:
        polar.state.settings = replace(settings, decoder=replace(settings.decoder, contrast=50.0))
        assert polar.transfer(texts, "up") == polar.transfer(texts, "up", contrast=50.0) != plain
    finally:
        polar.state.settings = settings
    with pytest.raises(ValueError, match="contrast must be from 0 to "):
        polar.transfer(texts, "up", contrast=-1)


def test_a_model_in_training_is_used_as_one_that_is_done() -> None:
    """Batch normalization goes by what it has learnt, and learns nothing of what is asked."""
    parts = ("encoder", "decoder", "generator")
    model = Model(trained(image_settings({f"{part}.normalization": "batch" for part in parts}), 3), None)
    before, pixels = weights(model.state), images().pixels.reshape(-1, 3, 5)
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


def test_samples_are_drawn_at_the_models_own_temperature_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary.train(SENTENCES, VocabularySettings())
    text_model = Model(TrainingState.new(text_settings(), vocabulary.spec), vocabulary)
    monkeypatch.setattr(text_model.state, "settings", replace(text_model.settings, temperature=1.0))
    for draw in (text_model.generate, text_model.generate_ids):
        assert draw(40, seed=1) == draw(40, seed=1, temperature=1.0) != draw(40, seed=1, temperature=0.0)


__all__ = ["polar"]


@pytest.mark.parametrize(("steps", "classes"), [(2, [0, 1]), (4, [0, 0, 1, 1]), (5, [0, 0, 0, 1, 1])])
def test_half_of_a_path_is_of_the_class_of_either_end(
    steps: int, classes: list[int], polar: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, asked = ("the bad dog", "the nice dog"), list[Any]()
    assert polar.most_probable_class(list(ends)) == ["down", "up"]
    decoded = polar._decoded

    def noted(code: Any, labels: Any = None) -> Any:
        asked.append(labels.tolist())
        return decoded(code, labels)

    monkeypatch.setattr(polar, "_decoded", noted)
    polar.interpolate(*ends, steps)
    assert asked == [classes]


def test_classes_in_turn_do_not_depend_on_how_many_are_written_at_once(polar: Model) -> None:
    assert polar.generate(23, seed=3, batch_size=5) == polar.generate(23, seed=3, batch_size=23)


@pytest.fixture(scope="module", params=[True, False], ids=["sphere", "unbounded"])
def untrained(request: pytest.FixtureRequest) -> Model:
    """Codes of length 1, or of any."""
    vocabulary = Vocabulary.train(SENTENCES, VocabularySettings())
    changes = {"code.unit_sphere": request.param, "generator.output": "sphere" if request.param else "linear"}
    return Model(TrainingState.new(text_settings(changes), vocabulary.spec), vocabulary)


def test_an_offset_leads_from_the_first_sentences_to_the_others(untrained: Model) -> None:
    """And a shifted code lies where codes do."""
    here, there, decoded = SENTENCES[:2], SENTENCES[2:5], list[Tensor]()
    offset, codes = untrained.offset(here, there), untrained.encode
    assert offset.dtype == np.float32 and np.abs(offset).max() > 1e-3
    np.testing.assert_allclose(offset, codes(there).mean(0) - codes(here).mean(0), atol=1e-6)

    def noted(code: Tensor, *_: object) -> list[list[int]]:
        decoded.append(code)
        return [[]] * len(code)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(untrained, "_decode_ids", noted)
        untrained.shift([SENTENCES[0]], untrained.offset([SENTENCES[0]], [SENTENCES[4]]))
        untrained.shift([SENTENCES[0]], 3 * offset)
    target, far = codes([SENTENCES[4]])[0], codes([SENTENCES[0]])[0] + 3 * offset
    far = far / np.linalg.norm(far) if untrained.settings.code.kind == "sphere" else far
    np.testing.assert_allclose(torch.cat(decoded).numpy(), [target, far], atol=1e-5)


def test_noise_is_interpolated_on_a_great_circle(untrained: Model) -> None:
    """In the middle of a straight line it would be shorter than any that the generator has seen."""
    given = list[Tensor]()
    hook = untrained.state.sampler.register_forward_pre_hook(lambda _, noise: given.append(noise[0]))
    untrained.interpolate_noise(5, seed=3)
    hook.remove()
    (way,) = given
    lengths = way.norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(float(lengths[0]), float(lengths[-1]), 5, dtype=way.dtype))
    drawn = untrained._noise(2, torch.Generator().manual_seed(3))
    torch.testing.assert_close(way[[0, -1]], drawn)


def test_the_codes_sampled_are_those_that_are_decoded(image_model: Model) -> None:
    """The moving average's, as of `generate`."""
    decoded = list[Tensor]()

    def noted(code: Tensor, *_: object) -> Any:
        decoded.append(code)
        return np.zeros((len(code), 3, 5), np.uint8)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(image_model, "_decode_images", noted)
        image_model.generate(7, seed=3)
    np.testing.assert_allclose(image_model.sample_codes(7, seed=3), torch.cat(decoded).float(), atol=1e-6)
