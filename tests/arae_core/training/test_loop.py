"""The loop: what it reports, when it stops, and that nobody who watches it changes it."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TokenStore
from arae_core.model import Model
from arae_core.priors import fitting
from arae_core.priors.fitting import fit_prior
from arae_core.runtime.parallel import Parallel
from arae_core.settings import Settings
from arae_core.training.loop import evaluate_reconstruction, total_iterations, train
from arae_core.training.state import SECTION_OF, TrainingState
from tests.arae_core.small import (
    IMAGE,
    LABELLED,
    TEXT,
    assert_same,
    image_settings,
    images,
    new_state,
    sentences,
    settings_of,
    store_of,
    text_settings,
    trained,
    weights,
)


def test_iterations_are_set_or_follow_from_the_epochs() -> None:
    assert total_iterations(Settings(batch_size=8, epochs=3), 17) == 3 * 3
    assert total_iterations(Settings(batch_size=8, epochs=3), 16) == 3 * 2
    assert total_iterations(Settings(batch_size=8, epochs=3, iterations=7), 17) == 7


@pytest.mark.parametrize(
    ("start", "until", "every", "reports"), [(0, 7, 3, [3, 6, 7]), (4, 7, 3, [6, 7]), (0, 2, 5, [2]), (7, 7, 3, [])]
)
def test_it_reports_at_multiples_and_at_the_end(start: int, until: int, every: int, reports: list[int]) -> None:
    state = new_state(image_settings())
    state.step = start
    assert [report.step for report in train(state, store_of("image"), until=until, every=every)] == reports
    assert state.step == until


def test_rates_fall_to_zero_in_a_line_over_the_last_iterations() -> None:
    """As set by hand before each iteration of a run that does not cool down."""
    plain, cooling = {"iterations": 10}, {"iterations": 10, "cooldown": 0.4, "code.noise": 0.0}
    by_hand, state = (new_state(text_settings(changes | {"code.noise": 0.0})) for changes in (plain, cooling))
    full = {part: optimizer.param_groups[0]["lr"] for part, optimizer in by_hand.optimizers.items()}
    rates = []
    for _ in train(state, store_of("text"), until=10, every=1):
        rates.append(state.optimizers["encoder"].param_groups[0]["lr"] / full["encoder"])
    assert rates == pytest.approx([1] * 7 + [0.75, 0.5, 0.25])
    for report in train(by_hand, store_of("text"), until=10, every=1):
        for part, optimizer in by_hand.optimizers.items():
            optimizer.param_groups[0]["lr"] = full[part] * min(1, (10 - report.step) / 4)
    assert_same(weights(state), weights(by_hand))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_reports_are_means_and_their_spacing_changes_nothing(kind: str) -> None:
    often, seldom = new_state(settings_of(kind)), new_state(settings_of(kind))
    each = [report.scalars for report in train(often, store_of(kind), until=6, every=1)]
    (report,) = train(seldom, store_of(kind), until=6, every=6)
    assert_same(weights(often), weights(seldom))
    for name in ("reconstruction_loss", "distance", "gradient_penalty", "gradient_norm", "code_norm_real"):
        assert report.scalars[name] == pytest.approx(sum(one[name] for one in each) / 6, rel=1e-12), name
    assert report.scalars["noise"] == 0.1
    assert report.scalars["epoch"] == 6 / math.ceil(29 / 8)
    assert all(math.isfinite(value) for value in report.scalars.values())
    assert report.scalars["code_norm_real"] == pytest.approx(1) == report.scalars["code_norm_fake"]


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({}, {"distance", "gradient_penalty", "encoder_loss", "generator_loss", "code_variance_fake"}, set()),
        ({"critic.objective": "wgan-clip"}, {"distance", "generator_loss"}, {"gradient_penalty"}),
        ({"prior.kind": "gaussian"}, {"distance", "encoder_loss"}, {"generator_loss"}),
        ({"critic.objective": "none"}, {"reconstruction_loss"}, {"distance", "encoder_loss", "generator_loss"}),
    ],
)
def test_what_is_reported_follows_from_the_settings(
    changes: dict[str, Any], present: set[str], absent: set[str]
) -> None:
    (report,) = train(new_state(text_settings(changes)), store_of("text"), until=1, every=1)
    names = set(report.scalars)
    assert present | {"reconstruction_loss", "gradient_norm", "ms_per_iteration", "examples_per_second"} <= names
    assert not absent & names


@pytest.mark.parametrize("kind", ["text", "image"])
def test_it_learns(kind: str) -> None:
    changes = {"encoder.learning_rate": 1e-2, "decoder.learning_rate": 1e-2, "code.noise": 0.01}
    state = new_state(settings_of(kind, changes))
    losses = [report.scalars["reconstruction_loss"] for report in train(state, store_of(kind), until=160, every=10)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_seed_decides_everything_and_nothing_else_does() -> None:
    first = trained(text_settings(), 3)
    torch.manual_seed(999)
    torch.rand(7)
    before = torch.random.get_rng_state()
    assert_same(weights(first), weights(trained(text_settings(), 3)))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
    other = weights(trained(text_settings({"seed": 6}), 3))
    assert not torch.equal(other["encoder.embedding.weight"], weights(first)["encoder.embedding.weight"])


@pytest.mark.parametrize("changes", [{}, {"critic.objective": "none"}, {"critic.objective": "wgan-clip"}])
def test_divergence_is_an_error_that_names_the_rates(changes: dict[str, Any]) -> None:
    rates = {f"{part}.learning_rate": 1e200 for part in ("encoder", "decoder", "generator", "critic")}
    state = new_state(text_settings(rates | changes))
    with pytest.raises(FloatingPointError, match="not finite at step") as caught:
        for _ in train(state, store_of("text"), until=20, every=4):
            pass
    for words in ("encoder 1e+200", "decoder 1e+200", "generator 1e+200", "critic 1e+200", "adversarial_weight (1)"):
        assert words in str(caught.value)


def test_a_weight_that_is_not_a_number_is_found_though_the_losses_are() -> None:
    """A word that no sentence has: nothing that is measured reads its vector."""
    state = new_state(text_settings())
    with torch.no_grad():
        dict(state.modules["encoder"].named_parameters())["embedding.weight"][TEXT.pad] = torch.nan
    with pytest.raises(FloatingPointError, match="weights"):
        list(train(state, TokenStore.from_rows([[7]] * 8), until=1, every=1))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_one_example_at_a_time_is_enough(kind: str) -> None:
    state = new_state(settings_of(kind, {"batch_size": 1, "critic.steps": 1}))
    (report,) = train(state, store_of(kind), until=2, every=2)
    assert math.isfinite(report.scalars["reconstruction_loss"])


def test_who_looks_at_the_model_between_reports_changes_nothing() -> None:
    """Also where batch normalization makes training and use two different things."""
    settings = image_settings({"generator.normalization": "batch", "encoder.normalization": "batch"})
    watched, alone = new_state(settings), new_state(settings)
    for _ in train(alone, store_of("image"), until=4, every=1):
        pass
    for _ in train(watched, store_of("image"), until=4, every=1):
        evaluate_reconstruction(watched, store_of("image"))
        Model(watched, None).generate(3, temperature=1.0)
    assert_same(weights(watched), weights(alone))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_plain_autoencoder_samples_from_a_gaussian_fitted_to_its_codes(kind: str) -> None:
    state, store = trained(settings_of(kind, {"critic.objective": "none"}), 5), store_of(kind)
    codes = _codes(state)
    torch.testing.assert_close(state.modules['prior'].mean, codes.mean(0))
    factor = state.prior.factor
    assert isinstance(factor, torch.Tensor)
    torch.testing.assert_close(factor @ factor.T, torch.cov(codes.T))
    before = weights(state)
    fit_prior(state, store)
    assert_same(before, weights(state), 1e-12)


def test_reconstruction_is_measured_by_token_without_noise() -> None:
    state, store = trained(text_settings(), 5), store_of("text")
    assert isinstance(store, TokenStore)
    nll, right, count = torch.zeros(()), 0, 0
    rows = np.linspace(0, len(store) - 1, 13).astype(int)
    assert rows[-1] == len(store) - 1, "data in order of class are seen as a whole"
    for i in rows:
        batch = store.batch(np.array([i]), TEXT)
        nats, hits, targets = state.decoder.score(batch, state.encode(batch))
        nll, right, count = nll + nats.detach(), right + int(hits), count + targets
    figures = evaluate_reconstruction(state, store, limit=13)
    assert figures["validation_nll"] == pytest.approx(float(nll) / count, rel=1e-12)
    assert figures["validation_accuracy"] == pytest.approx(right / count, rel=1e-12)


def test_sentences_longer_than_longest_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"^longest must be >= 7, the longest example, got 6"):
        next(train(new_state(text_settings({"longest": 6})), store_of("text"), until=1, every=1))


@pytest.mark.parametrize(("kind", "shape"), [("text", IMAGE), ("image", TEXT)])
def test_settings_and_data_must_be_of_one_kind(kind: str, shape: Any) -> None:
    with pytest.raises(ValueError, match=f"^kind must match the data, got '{kind}'"):
        TrainingState.new(settings_of(kind), shape)


@torch.no_grad()
def _codes(state: TrainingState) -> torch.Tensor:
    store = store_of(state.settings.kind)
    if isinstance(store, TokenStore):
        return torch.cat([state.encode(store.batch(torch.tensor([i]).numpy(), TEXT)) for i in range(len(store))])
    return state.encode(store.batch(torch.arange(len(store)).numpy()))


def test_batch_normalization_of_one_example_on_a_rank_is_refused_on_every_rank() -> None:
    state = new_state(text_settings({"generator.normalization": "batch", "batch_size": 5}))
    for rank in range(3):
        with pytest.raises(ValueError, match=r"batch_size must be >= 6 with generator\.normalization batch on 3"):
            next(train(state, store_of("text"), Parallel(rank, 3), until=1, every=1))


def test_one_sentence_is_enough_for_a_fitted_prior() -> None:
    state = new_state(text_settings({"critic.objective": "none", "batch_size": 1}))
    list(train(state, TokenStore.from_rows([[5, 6]]), until=1, every=1))
    codes = state.prior(
        torch.randn(5, state.prior.noise_size, generator=torch.Generator().manual_seed(0), dtype=state.dtype)
    )
    assert torch.isfinite(codes).all() and codes.std(0).max() < 1e-6


def test_nothing_to_validate_on_is_told() -> None:
    with pytest.raises(ValueError, match="there are no examples to validate on"):
        evaluate_reconstruction(new_state(text_settings()), TokenStore.from_rows([]))


@pytest.mark.parametrize("every", [0, -3, [5, 0], []])
def test_reports_come_after_some_iterations(every: Any) -> None:
    with pytest.raises(ValueError, match=r"^every must be iterations >= 1, got"):
        next(train(new_state(text_settings()), store_of("text"), until=3, every=every))


def test_a_run_that_was_cooled_down_and_goes_on_has_its_rates_back() -> None:
    state, store = new_state(text_settings({"epochs": 1, "cooldown": 0.5})), store_of("text")
    end = total_iterations(state.settings, len(store))
    assert [report.step for report in train(state, store, until=end, every=end)] == [end]
    rate, group = state.settings.encoder.learning_rate, state.optimizers["encoder"].param_groups[0]
    assert group["lr"] < rate
    more = TokenStore.from_rows(sentences(211))
    next(train(state, more, until=end + 1, every=1))
    assert group["lr"] == rate


def test_labels_that_do_not_fit_the_classes_are_refused() -> None:
    state = new_state(text_settings(), "labelled")
    with pytest.raises(ValueError, match=r"^the sentences must have labels: the model has classes, low, high$"):
        next(train(state, store_of("text"), until=1, every=1))
    with pytest.raises(ValueError, match=r"^labels must be .*1.*, got 2"):
        next(train(state, store_of("three"), until=1, every=1))


def test_a_prior_is_fitted_to_examples_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data may come in order of class or of source."""
    monkeypatch.setattr(fitting, "FITTED_EXAMPLES", 7)
    state, store = trained(image_settings({"critic.objective": "none"}), 2), images()
    with torch.no_grad():
        first = state.encode(store.batch(np.arange(7))).mean(0)
    fit_prior(state, store)
    assert not torch.allclose(state.modules['prior'].mean, first)  # type: ignore[arg-type]
    before = weights(state)
    fit_prior(state, store)
    assert_same(before, weights(state))


@pytest.mark.parametrize("look", [evaluate_reconstruction, fit_prior], ids=["evaluate", "fit"])
def test_who_reads_codes_leaves_batch_normalization_alone(look: Any) -> None:
    state = trained(image_settings({"encoder.normalization": "batch", "critic.objective": "none"}), 3)
    assert state.modules.training
    statistics = {name: value.clone() for name, value in state.modules["encoder"].named_buffers()}
    look(state, images())
    assert_same(statistics, dict(state.modules["encoder"].named_buffers()))
    assert state.modules.training


def test_released_initialization_is_that_of_the_published_code() -> None:
    state = new_state(text_settings({"initialization": "released", "critic.hidden": (97, 89)}))
    for part in ("encoder", "decoder"):
        for name, weight in state.modules[part].named_parameters():
            assert weight.abs().max() <= 0.1 and (weight.abs().max() > 0) == (not name.endswith("output.bias")), name
    big = dict(state.critic.named_parameters())["layers.2.weight"].detach()
    assert float(big.std()) == pytest.approx(0.02, rel=0.1) and abs(float(big.mean())) < 0.002
    images = {name: new_state(image_settings({"initialization": name})).modules for name in ("default", "released")}
    for part in ("encoder", "decoder"):
        assert_same(images["default"][part].state_dict(), images["released"][part].state_dict())


def test_labels_below_the_first_class_are_refused() -> None:
    rows = sentences(13)
    with pytest.raises(ValueError, match=r"^labels must be from 0 to 1, got -1"):
        BatchSampler(TokenStore.from_rows(rows, [0, 1] * 6 + [-1]), LABELLED, 6, 7)


PARTS = ("encoder", "decoder", "generator", "critic", "classifier")


def test_every_part_cools_down_from_its_own_rate() -> None:
    """The aligner's is the classifier's."""
    rates = {f"{part}.learning_rate": 0.01 * i for i, part in enumerate(PARTS, 1)}
    state = new_state(text_settings(rates | {"cooldown": 1.0, "decoder.alignment_weight": 0.5}), "three")
    state.end, state.step = 8, 6
    state.cool_down()
    assert {*PARTS, "aligner"} == set(state.optimizers)
    for part, optimizer in state.optimizers.items():
        own = rates[f"{SECTION_OF.get(part, part)}.learning_rate"]
        assert optimizer.param_groups[0]["lr"] == pytest.approx(own / 4), part
