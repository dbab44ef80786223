"""Cross-alignment: soft words, discriminators, and both updates."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from arae_core.algorithm import iteration
from arae_core.attributes import cross_alignment
from arae_core.attributes.cross_alignment import (
    MAX_GRADIENT_NORM,
    SequenceDiscriminators,
    clip_rows,
    cross_alignment_step,
    free_running_states,
    gumbel_noise,
    shifted,
)
from arae_core.codecs.lstm import LSTMDecoder
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TextBatch
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState
from tests.arae_core.small import THREE, new_state, normal, settings_of, store_of, weights

CHANGES: dict[str, Any] = {
    "decoder.alignment_weight": 0.7,
    "critic.objective": "none",
    "encoder.attribute_weight": 0.0,
    "gradient_clip": 0.0,
    **{f"{part}.optimizer": "sgd" for part in ("encoder", "decoder", "classifier")},
    **{f"{part}.learning_rate": 0.1 for part in ("encoder", "decoder", "classifier")},
}
LABELS = torch.tensor([0, 1, 2, 0, 1])


def made(**changes: Any) -> tuple[TrainingState, LSTMDecoder, TextBatch]:
    settings = settings_of("three", CHANGES | {name.replace("__", "."): value for name, value in changes.items()})
    state = new_state(settings, "three")
    batch = BatchSampler(store_of("three"), THREE, settings.batch_size, settings.seed).adversarial_batch(0)
    decoder = state.modules["decoder"]
    assert isinstance(decoder, LSTMDecoder) and isinstance(batch, TextBatch)
    return state, decoder, batch


NO_NOISE = torch.zeros(5, THREE.vocabulary, dtype=torch.float64)


def test_soft_words_are_means_of_word_vectors() -> None:
    _, decoder, _ = made()
    noise = [normal(5, THREE.vocabulary, seed) for seed in range(6)]
    found = free_running_states(decoder, normal(5, 7), LABELS, THREE.start, noise, 1.0)
    fed, memory = decoder.conditioned(normal(5, 7), LABELS), None
    word = decoder.embedding.weight[THREE.start].expand(5, -1)
    for i, drawn in enumerate(noise):
        states, memory = decoder.lstm(torch.cat([word, fed], 1)[:, None], memory)
        torch.testing.assert_close(found[:, i], states[:, 0])
        chances = ((decoder.output(states[:, 0]) + drawn) / 0.1).softmax(1)
        word = torch.stack([(row[:, None] * decoder.embedding.weight).sum(0) for row in chances])


def test_each_class_has_a_discriminator_that_ignores_padding() -> None:
    torch.manual_seed(0)
    both = SequenceDiscriminators(13, 3).double()
    states, classes = torch.randn(4, 6, 13, dtype=torch.float64), torch.tensor([2, 0, 0, 1])
    scores = both(states, classes)
    torch.testing.assert_close(both(F.pad(states, (0, 0, 0, 5)), classes), scores)
    for i, y in enumerate(classes):
        torch.testing.assert_close(both(states[i : i + 1], y[None])[0], scores[i])
    assert not torch.allclose(both(states, (classes + 1) % 3), scores)
    scores[0].backward()
    trained = [any(p.grad is not None and p.grad.any() for p in net.parameters()) for net in both.filters]
    assert trained == [False, False, True]


def test_the_argmax_of_logits_with_gumbel_noise_is_a_draw() -> None:
    logits = torch.tensor([0.0, 1.0, -0.7, 0.3], dtype=torch.float64)
    uniform = torch.rand(40_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = (logits + gumbel_noise(uniform)).argmax(1).bincount(minlength=4) / 40_000
    torch.testing.assert_close(drawn.double(), logits.softmax(0), rtol=0, atol=4 * 0.5 / 200)


@pytest.mark.parametrize("vocabulary", [17, 1008, 1009, 2018, 5045])
def test_every_word_has_its_own_noise(vocabulary: int) -> None:
    drawn = torch.rand(2, vocabulary, generator=torch.Generator().manual_seed(0))
    noise = list(shifted(drawn, 15))
    assert torch.equal(noise[0], drawn)
    assert all(torch.equal(each.sort(1).values, drawn.sort(1).values) for each in noise)
    assert len({tuple(each[1].tolist()) for each in noise}) == 15


@pytest.mark.parametrize("bound", [1e9, 1e-3])
def test_gradients_through_soft_words_are_clipped(bound: float) -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(clip_rows(gradient, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    _, decoder, _ = made()
    with patch.object(cross_alignment, "clip_rows", wraps=clip_rows) as clipped:
        states = free_running_states(decoder, normal(5, 7), LABELS, THREE.start, [NO_NOISE] * 7, bound)
        states.square().sum().backward()
    norms = [float(clip_rows(*call.args).norm(dim=1).max()) for call in clipped.call_args_list]
    assert len(norms) == 6, "all words but the last, which is never read"
    assert max(norms) == pytest.approx(1e-3) if bound == 1e-3 else max(norms) > 1e-2


@pytest.mark.parametrize("uninformative", [0.1, 10.0])
def test_both_updates_are_gradient_descent_on_the_published_losses(
    uninformative: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The autoencoder ignores discriminators whose loss is at least UNINFORMATIVE."""
    monkeypatch.setattr(cross_alignment, "MAX_GRADIENT_NORM", 1e9)
    monkeypatch.setattr(cross_alignment, "UNINFORMATIVE", uninformative)
    state, decoder, batch = made()
    discriminators, draws = state.modules["aligner"], torch.Generator()
    draws.set_state(state.draws.get_state())
    assert batch.labels is not None

    def uniform(columns: int) -> Tensor:
        return torch.rand(state.settings.batch_size, columns, generator=draws, dtype=torch.float64)

    there = (torch.arange(batch.source.shape[1]) < batch.lengths[:, None])[:, :, None]
    other = (batch.labels + 1) % 3
    first = -(-uniform(THREE.vocabulary).log()).log()
    noise = [first.roll(1009 * step, 1) for step in range(batch.source.shape[1])]
    kept = [2.0 * (uniform(5 * 64) < 0.5) for _ in range(3)]

    def states() -> tuple[Tensor, Tensor]:
        code = state.encode(batch)
        real, _ = decoder(batch.source, decoder.conditioned(code, batch.labels))
        return real * there, free_running_states(decoder, code, other, THREE.start, noise, 1e9) * there

    real, own = (each.detach() for each in states())
    right = discriminators(real, batch.labels, kept[0]).sigmoid().log().mean()
    right = right + (1 - discriminators(own, other, kept[1]).sigmoid()).log().mean()
    named = dict(discriminators.named_parameters(prefix="aligner"))
    steps = torch.autograd.grad(-right, list(named.values()))
    expected = {name: p.detach() - 0.1 * g for (name, p), g in zip(named.items(), steps, strict=True)}
    before = weights(state)

    scalars = cross_alignment_step(state, Parallel(), batch)
    after = weights(state)
    assert 0.1 < float(scalars["discriminator_loss"]) < 10
    assert float(scalars["discriminator_loss"]) == pytest.approx(-float(right.detach()), abs=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-12)

    state.modules.load_state_dict({**before, **expected})  # the discriminators of the second update
    aligned = -discriminators(states()[1], other, kept[2]).sigmoid().log().mean()
    assert float(scalars["alignment_loss"]) == pytest.approx(float(aligned.detach()), abs=1e-12)
    parts = {n: p for n, p in state.modules.named_parameters() if n.startswith(("encoder.", "decoder."))}
    gradients = torch.autograd.grad(0.7 * (uninformative == 10) * aligned, list(parts.values()), allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in gradients) == (uninformative == 10)
    for (name, parameter), gradient in zip(parts.items(), gradients, strict=True):
        moved = parameter.detach() - 0.1 * (0 if gradient is None else gradient)
        torch.testing.assert_close(after[name], moved, rtol=0, atol=1e-9)


@pytest.mark.parametrize("follows", [True, False])
def test_all_ranks_follow_the_discriminators_or_none_does(follows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of the loss over all ranks decides."""
    monkeypatch.setattr(cross_alignment, "UNINFORMATIVE", 0.1 if follows else 10.0)
    monkeypatch.setattr(Parallel, "mean", lambda *_: torch.tensor(0.0 if follows else 11.0))
    state, _, batch = made()
    before = weights(state)
    with patch.object(cross_alignment, "free_running_states", wraps=free_running_states) as free_running:
        cross_alignment_step(state, Parallel(), batch)
    assert free_running.call_args.args[-1] == pytest.approx(MAX_GRADIENT_NORM * 0.7 / 8), "by the weight of a sentence"
    moved = {name.split(".")[0] for name, value in weights(state).items() if not torch.equal(value, before[name])}
    assert moved == ({"aligner", "encoder", "decoder"} if follows else {"aligner"})


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_iteration_has_the_step_if_the_weight_is_not_0(weight: float) -> None:
    state, _, _ = made(decoder__alignment_weight=weight, classifier__learning_rate=0.03)
    data = BatchSampler(store_of("three"), THREE, state.settings.batch_size, state.settings.seed)
    scalars = iteration(state, data, Parallel())
    assert ("alignment_loss" in scalars) == ("aligner" in state.modules) == (weight > 0)
    if weight:
        assert state.optimizers["aligner"].param_groups[0]["lr"] == 0.03
