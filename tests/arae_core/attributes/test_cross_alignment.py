"""The cross-aligned baseline: soft words, discriminators, and its two updates."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from arae_core.algorithm import iteration
from arae_core.attributes import cross_alignment
from arae_core.attributes.cross_alignment import (
    MAX_GRADIENT_NORM,
    SequenceDiscriminators,
    cross_alignment_step,
    clip_rows,
    gumbel_noise,
    shifted,
    free_running_states,
)
from arae_core.codecs.lstm import LSTMDecoder
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TextBatch
from arae_core.runtime.parallel import Parallel
from arae_core.settings import DecoderSettings
from arae_core.training.state import TrainingState
from tests.arae_core.small import THREE, new_state, settings_of, store_of, weights

CHANGES: dict[str, Any] = {
    "decoder.alignment_weight": 0.7,
    "critic.objective": "none",
    "encoder.attribute_weight": 0.0,
    "gradient_clip": 0.0,
    **{f"{part}.optimizer": "sgd" for part in ("encoder", "decoder", "classifier")},
    **{f"{part}.learning_rate": 0.1 for part in ("encoder", "decoder", "classifier")},
}


def made() -> tuple[TrainingState, TextBatch]:
    settings = settings_of("three", CHANGES)
    state = new_state(settings, "three")
    batch = BatchSampler(store_of("three"), THREE, settings.batch_size, settings.seed).confuse(0)
    assert isinstance(batch, TextBatch)
    return state, batch


def code_of(count: int) -> Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def silence(sentences: int, steps: int) -> list[Tensor]:
    """No noise."""
    return [torch.zeros(sentences, THREE.vocabulary, dtype=torch.float64)] * steps


def test_sharp_words_are_the_most_probable_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_alignment, "SOFT_WORD_TEMPERATURE", 1e-7)
    state, _ = made()
    decoder = state.decoder
    assert isinstance(decoder, LSTMDecoder)
    code, labels = code_of(5), torch.tensor([0, 1, 2, 0, 1])
    found = free_running_states(decoder, code, labels, THREE.start, silence(5, 6), 1.0)
    words, fed = torch.full((5, 1), THREE.start), decoder.conditioned(code, labels)
    for _ in range(5):
        hidden, _ = decoder(words, fed)
        words = torch.cat([words, decoder.output(hidden[:, -1]).argmax(1, keepdim=True)], 1)
    torch.testing.assert_close(found, decoder(words, fed)[0])


def test_soft_words_are_means_of_word_vectors() -> None:
    state, _ = made()
    decoder = state.decoder
    assert isinstance(decoder, LSTMDecoder)
    code, labels = code_of(3), torch.tensor([2, 0, 1])
    noise = [torch.randn(3, THREE.vocabulary, generator=torch.Generator().manual_seed(1), dtype=torch.float64)]
    found = free_running_states(decoder, code, labels, THREE.start, [*noise, *noise], 1.0)
    first, _ = decoder(torch.full((3, 1), THREE.start), decoder.conditioned(code, labels))
    torch.testing.assert_close(found[:, :1], first)
    chances = ((decoder.output(first[:, 0]) + noise[0]) / 0.1).softmax(1)
    word = sum(chances[:, i : i + 1] * decoder.embedding.weight[i] for i in range(THREE.vocabulary))
    assert isinstance(word, Tensor)
    _, memory = decoder(torch.full((3, 1), THREE.start), decoder.conditioned(code, labels))
    second, _ = decoder.lstm(torch.cat([word, decoder.conditioned(code, labels)], 1)[:, None], memory)
    torch.testing.assert_close(found[:, 1:], second)


def test_a_discriminator_a_class_that_padding_does_not_move() -> None:
    torch.manual_seed(0)
    both = SequenceDiscriminators(13, 3).double()
    states, classes = torch.randn(4, 6, 13, dtype=torch.float64), torch.tensor([2, 0, 0, 1])
    scores = both(states, classes)
    torch.testing.assert_close(both(F.pad(states, (0, 0, 0, 5)), classes), scores)
    for i, y in enumerate(classes):
        torch.testing.assert_close(both(states[i : i + 1], y[None])[0], scores[i])
    assert not torch.allclose(both(states, (classes + 1) % 3), scores)
    scores[0].backward()
    moved = [any(p.grad is not None and p.grad.any() for p in net.parameters()) for net in both.filters]
    assert moved == [False, False, True]


def test_gumbel_noise_makes_the_greatest_logit_a_draw() -> None:
    logits = torch.tensor([0.0, 1.0, -0.7, 0.3], dtype=torch.float64)
    uniform = torch.rand(40_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = (logits + gumbel_noise(uniform)).argmax(1).bincount(minlength=4) / 40_000
    torch.testing.assert_close(drawn.double(), logits.softmax(0), rtol=0, atol=4 * 0.5 / 200)


def test_gradients_through_soft_words_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far steeper ones change nothing but their length; and what is no steeper is left as it is."""
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(clip_rows(gradient, 1.0), expected)

    state, _ = made()
    decoder = state.decoder
    assert isinstance(decoder, LSTMDecoder)
    norms: dict[float, list[float]] = {}
    for steepest in (1e9, 1e-3):
        found = norms.setdefault(steepest, [])

        def noted(values: Tensor, most: float, found: list[float] = found) -> Tensor:
            found.append(float(clip_rows(values, most).norm(dim=1).max()))
            return clip_rows(values, most)

        monkeypatch.setattr(cross_alignment, "clip_rows", noted)
        states = free_running_states(decoder, code_of(5), torch.tensor([0, 1, 2, 0, 1]), THREE.start, silence(5, 7), steepest)
        states.square().sum().backward()
    assert len(norms[1e9]) == len(norms[1e-3]) == 6, "all words but the last, which is never read"
    assert max(norms[1e9]) > 1e-2 and max(norms[1e-3]) == pytest.approx(1e-3)


class Drawn:
    """The numbers that a state draws, to be had again in the same order."""

    def __init__(self, state: TrainingState):
        self.again = torch.Generator().manual_seed(state.settings.seed)
        self.again.set_state(state.draws.get_state())
        self.batch = state.settings.batch_size

    def uniform(self, columns: int) -> Tensor:
        return torch.rand(self.batch, columns, generator=self.again, dtype=torch.float64)


@pytest.mark.parametrize("too_poor", [0.1, 10.0])
def test_both_updates_are_gradient_descent_on_what_is_written(too_poor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoencoder does not follow discriminators with a loss from there on."""
    monkeypatch.setattr(cross_alignment, "MAX_GRADIENT_NORM", 1e9)
    monkeypatch.setattr(cross_alignment, "UNINFORMATIVE", too_poor)
    state, batch = made()
    decoder, judges, drawn = state.decoder, state.modules["aligner"], Drawn(state)
    assert isinstance(decoder, LSTMDecoder) and batch.labels is not None
    there = (torch.arange(batch.source.shape[1]) < batch.lengths[:, None])[:, :, None]
    other = (batch.labels + 1) % 3
    first = -(-drawn.uniform(THREE.vocabulary).log()).log()
    noise = [first.roll(1009 * step, 1) for step in range(batch.source.shape[1])]
    kept = [2.0 * (drawn.uniform(5 * 64) < 0.5) for _ in range(3)]

    def states() -> tuple[Tensor, Tensor]:
        code = state.encode(batch)
        real, _ = decoder(batch.source, decoder.conditioned(code, batch.labels))
        return real * there, free_running_states(decoder, code, other, THREE.start, noise, 1e9) * there

    real, own = (each.detach() for each in states())
    right = judges(real, batch.labels, kept[0]).sigmoid().log().mean()
    right = right + (1 - judges(own, other, kept[1]).sigmoid()).log().mean()
    names = [name for name, _ in judges.named_parameters()]
    steps = torch.autograd.grad(-right, list(judges.parameters()))
    expected = {f"aligner.{n}": p.detach() - 0.1 * g for n, p, g in zip(names, judges.parameters(), steps, strict=True)}
    before = weights(state)

    scalars = cross_alignment_step(state, Parallel(), batch)
    after = weights(state)
    assert 0.1 < float(scalars["discriminator_loss"]) < 10
    assert float(scalars["discriminator_loss"]) == pytest.approx(-float(right.detach()), abs=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-12)

    state.modules.load_state_dict({**before, **expected})  # the discriminators as the second update met them
    alike = -judges(states()[1], other, kept[2]).sigmoid().log().mean()
    assert float(scalars["alignment_loss"]) == pytest.approx(float(alike.detach()), abs=1e-12)
    parts = {n: p for n, p in state.modules.named_parameters() if n.startswith(("encoder.", "decoder."))}
    gradients = torch.autograd.grad(0.7 * (too_poor == 10) * alike, list(parts.values()), allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in gradients) == (too_poor == 10)
    for (name, parameter), gradient in zip(parts.items(), gradients, strict=True):
        moved = parameter.detach() - 0.1 * (0 if gradient is None else gradient)
        torch.testing.assert_close(after[name], moved, rtol=0, atol=1e-9)


def test_it_is_a_step_of_the_iteration_where_it_is_asked_for() -> None:
    for weight in (0.0, 0.7):
        settings = settings_of("three", CHANGES | {"decoder.alignment_weight": weight})
        state = new_state(settings, "three")
        feed = BatchSampler(store_of("three"), THREE, settings.batch_size, settings.seed)
        scalars = iteration(state, feed, Parallel())
        assert ("alignment_loss" in scalars) == ("aligner" in state.modules) == (weight > 0)


def test_decoders_of_their_own_cannot_be_aligned() -> None:
    with pytest.raises(ValueError, match=r"decoder\.conditioning must be embedding with a decoder\.alignment_weight"):
        DecoderSettings(conditioning="separate", alignment_weight=1.0)


@pytest.mark.parametrize("vocabulary", [17, 1008, 1009, 2018, 5045])
def test_every_word_has_noise_of_its_own(vocabulary: int) -> None:
    drawn = torch.rand(2, vocabulary, generator=torch.Generator().manual_seed(0))
    noise = list(shifted(drawn, 15))
    assert torch.equal(noise[0], drawn)
    assert all(torch.equal(each.sort(1).values, drawn.sort(1).values) for each in noise)
    assert len({tuple(each[1].tolist()) for each in noise}) == 15


def test_discriminators_learn_as_the_classifier_is_set_to() -> None:
    settings = settings_of("three", CHANGES | {"classifier.learning_rate": 0.03})
    assert new_state(settings, "three").optimizers["aligner"].param_groups[0]["lr"] == 0.03


@pytest.mark.parametrize("follows", [True, False])
def test_all_ranks_follow_the_discriminators_or_none_does(follows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the mean of their losses, whatever a rank's own says."""
    monkeypatch.setattr(cross_alignment, "UNINFORMATIVE", 0.1 if follows else 10.0)
    monkeypatch.setattr(Parallel, "mean", lambda *_: torch.tensor(0.0 if follows else 11.0))
    state, batch = made()
    before = weights(state)
    cross_alignment_step(state, Parallel(), batch)
    moved = {name.split(".")[0] for name, value in weights(state).items() if not torch.equal(value, before[name])}
    assert moved == ({"aligner", "encoder", "decoder"} if follows else {"aligner"})


def test_gradients_are_cut_to_a_sentences_share_of_the_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the batch's mean and the weight have made less."""
    asked = list[float]()

    def noted(
        decoder: LSTMDecoder, code: Tensor, labels: Tensor, start: int, noise: Iterable[Tensor], steepest: float
    ) -> Tensor:
        asked.append(steepest)
        return free_running_states(decoder, code, labels, start, noise, steepest)

    monkeypatch.setattr(cross_alignment, "free_running_states", noted)
    state, batch = made()
    cross_alignment_step(state, Parallel(), batch)
    assert asked == [pytest.approx(MAX_GRADIENT_NORM * 0.7 / 8)]
