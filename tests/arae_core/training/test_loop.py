"""The training loop: reports, divergence, validation, learning rates, refusals."""

import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TokenStore, make_batch
from arae_core.model import Model
from arae_core.priors.fitting import fit_prior
from arae_core.runtime.parallel import Parallel
from arae_core.settings import Settings
from arae_core.training import loop
from arae_core.training.loop import evaluate_reconstruction, total_iterations, train
from arae_core.training.state import TrainingState
from tests.arae_core import small
from tests.arae_core.small import (
    TEXT,
    assert_same,
    image_settings,
    new_state,
    run,
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
def test_reports_come_at_multiples_and_at_the_end(start: int, until: int, every: int, reports: list[int]) -> None:
    state = new_state(image_settings())
    state.step = start
    assert [report.step for report in run(state, until, every=every)] == reports
    assert state.step == until


def test_rates_fall_linearly_to_0_over_the_last_iterations() -> None:
    """Compared with rates that are set by hand before each iteration."""
    sections = {"encoder": 0.001, "decoder": 0.002, "generator": 0.003, "critic": 0.004, "classifier": 0.005}
    plain = {"iterations": 10, "code.noise": 0.0, "decoder.alignment_weight": 0.5}
    plain |= {f"{section}.learning_rate": rate for section, rate in sections.items()}
    by_hand, state = (new_state(text_settings(plain | more), "three") for more in ({}, {"cooldown": 0.4}))
    full = {part: optimizer.param_groups[0]["lr"] for part, optimizer in by_hand.optimizers.items()}
    assert sorted(full.values()) == [0.001, 0.002, 0.003, 0.004, 0.005, 0.005]
    assert (full["prior"], full["aligner"]) == (0.003, 0.005)
    rates = []
    for _ in train(state, store_of("three"), until=10, every=1):
        rates.append([optimizer.param_groups[0]["lr"] / full[part] for part, optimizer in state.optimizers.items()])
    assert rates == [pytest.approx([share] * 6) for share in [1] * 7 + [0.75, 0.5, 0.25]]
    for report in train(by_hand, store_of("three"), until=10, every=1):
        for part, optimizer in by_hand.optimizers.items():
            optimizer.param_groups[0]["lr"] = full[part] * min(1, (10 - report.step) / 4)
    assert_same(weights(state), weights(by_hand))


def test_a_continued_run_gets_its_full_rates_back() -> None:
    state, store = new_state(text_settings({"epochs": 1, "cooldown": 0.5})), store_of("text")
    end = total_iterations(state.settings, len(store))
    assert [report.step for report in run(state, end)] == [end]
    rate, group = state.settings.encoder.learning_rate, state.optimizers["encoder"].param_groups[0]
    assert group["lr"] < rate
    next(train(state, TokenStore.from_rows(small.sentences(211)), until=end + 1, every=1))
    assert group["lr"] == rate


@pytest.mark.parametrize("kind", ["text", "image"])
def test_reports_are_means_and_their_interval_changes_no_weight(kind: str) -> None:
    often, seldom = new_state(small.settings_of(kind)), new_state(small.settings_of(kind))
    each = [report.scalars for report in run(often, 6, every=1)]
    (report,) = run(seldom, 6)
    assert_same(weights(often), weights(seldom))
    for name in ("reconstruction_loss", "distance", "gradient_penalty", "gradient_norm", "code_norm_real"):
        assert report.scalars[name] == pytest.approx(sum(one[name] for one in each) / 6, rel=1e-12), name
    others = {"encoder_loss", "generator_loss", "code_variance_fake", "ms_per_iteration", "examples_per_second"}
    assert others <= report.scalars.keys() and report.scalars["noise"] == 0.1
    assert report.scalars["epoch"] == 6 / math.ceil(29 / 8)
    assert all(math.isfinite(value) for value in report.scalars.values())
    assert report.scalars["code_norm_real"] == pytest.approx(1) == report.scalars["code_norm_fake"]


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_reconstruction_loss_falls(kind: str) -> None:
    (report,) = run(new_state(small.settings_of(kind, {"batch_size": 1, "critic.steps": 1})), 2)
    assert math.isfinite(report.scalars["reconstruction_loss"]), "a batch of one example"
    changes = {"encoder.learning_rate": 1e-2, "decoder.learning_rate": 1e-2, "code.noise": 0.01, "critic.steps": 1}
    losses = [
        report.scalars["reconstruction_loss"]
        for report in run(new_state(small.settings_of(kind, changes)), 120, every=10)
    ]
    assert losses[-1] < 0.8 * losses[0]


def test_the_seed_alone_determines_the_result() -> None:
    first = weights(trained(text_settings(), 3))
    torch.manual_seed(999)
    torch.rand(7)
    before = torch.random.get_rng_state()
    assert_same(first, weights(trained(text_settings(), 3)))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is left alone"
    other = weights(trained(text_settings({"seed": 6}), 3))
    assert not torch.equal(other["encoder.embedding.weight"], first["encoder.embedding.weight"])


@pytest.mark.parametrize("objective", ["wgan-gp", "wgan-clip", "none"])
def test_divergence_is_an_error_that_names_the_rates(objective: str) -> None:
    rates = {f"{part}.learning_rate": 1e307 for part in ("encoder", "decoder", "generator", "critic")}
    with pytest.raises(FloatingPointError, match="not finite at step") as caught:
        run(new_state(text_settings(rates | {"critic.objective": objective})), 20, every=4)
    for words in ("encoder 1e+307", "decoder 1e+307", "generator 1e+307", "critic 1e+307", "adversarial_weight (1)"):
        assert words in str(caught.value)


def test_a_weight_that_is_not_a_number_is_found_even_if_the_losses_are_finite() -> None:
    """No sentence contains this word, so no loss depends on its vector."""
    state = new_state(text_settings())
    with torch.no_grad():
        state.modules["encoder"].get_parameter("embedding.weight")[TEXT.pad] = torch.nan
    with pytest.raises(FloatingPointError, match="weights"):
        list(train(state, TokenStore.from_rows([[7]] * 8), until=1, every=1))


def test_use_between_reports_changes_no_weight() -> None:
    """Not even with batch normalization, which differs between training and use."""
    settings = image_settings({"generator.normalization": "batch", "encoder.normalization": "batch"})
    watched, alone = new_state(settings), trained(settings, 4)
    for _ in train(watched, store_of("image"), until=4, every=1):
        evaluate_reconstruction(watched, store_of("image"))
        Model(watched, None).generate(3, temperature=1.0)
    assert_same(weights(watched), weights(alone))


@pytest.mark.parametrize("use", [evaluate_reconstruction, fit_prior])
def test_encoding_leaves_batch_normalization_alone(use: Any) -> None:
    state = trained(image_settings({"encoder.normalization": "batch", "critic.objective": "none"}), 3)
    assert state.modules.training
    statistics = {name: value.clone() for name, value in state.modules["encoder"].named_buffers()}
    use(state, small.images())
    assert_same(statistics, dict(state.modules["encoder"].named_buffers()))
    assert state.modules.training


def test_reconstruction_is_measured_per_token_without_noise() -> None:
    """On evenly spaced examples, in case the data are sorted by class."""
    state, store = trained(text_settings(), 5), store_of("text")
    rows = np.linspace(0, len(store) - 1, 13).astype(int)
    assert rows[-1] == len(store) - 1
    batches = [make_batch(store, np.array([i]), TEXT, state.device) for i in rows]
    with torch.no_grad():
        scores = [state.decoder.score(batch, state.encode(batch)) for batch in batches]
    nll, right, count = (float(sum(column)) for column in zip(*scores, strict=True))
    figures = evaluate_reconstruction(state, store, limit=13)
    assert figures["validation_nll"] == pytest.approx(nll / count, rel=1e-12)
    assert figures["validation_accuracy"] == pytest.approx(right / count, rel=1e-12)


def test_a_prior_is_fitted_to_examples_from_all_of_the_data() -> None:
    state, store = trained(image_settings({"critic.objective": "none"}), 2), small.images()
    with torch.no_grad():
        first = state.encode(store.batch(np.arange(7))).mean(0)
    fit_prior(state, store, examples=7)
    before = weights(state)
    assert not torch.allclose(before["prior.mean"], first)
    fit_prior(state, store, examples=7)
    assert_same(before, weights(state))


def test_training_keeps_freed_memory_and_building_a_state_does_not() -> None:
    with patch.object(loop, "keep_freed_memory") as keep:
        state = new_state(image_settings())
        keep.assert_not_called()
        run(state, 1)
        keep.assert_called()


def test_released_initialization_follows_the_published_code() -> None:
    state = new_state(text_settings({"initialization": "released", "critic.hidden": (97, 89)}))
    for part in ("encoder", "decoder"):
        for name, weight in state.modules[part].named_parameters():
            assert weight.abs().max() <= 0.1 and (weight.abs().max() > 0) == (not name.endswith("output.bias")), name
    big = dict(state.critic.named_parameters())["layers.2.weight"].detach()
    assert float(big.std()) == pytest.approx(0.02, rel=0.1) and abs(float(big.mean())) < 0.002
    default, released = (new_state(image_settings({"initialization": name})) for name in ("default", "released"))
    for part in ("encoder", "decoder"):
        assert_same(default.modules[part].state_dict(), released.modules[part].state_dict())


BATCH_NORM = {"generator.normalization": "batch", "batch_size": 5}


@pytest.mark.parametrize(
    ("changes", "data", "spec", "options", "message"),
    [
        ({"longest": 6}, "text", "text", {}, r"^longest must be >= 7, the longest example, got 6"),
        *(({}, "text", "text", {"every": every}, r"^every must be .*>= 1, got") for every in (0, -3, [5, 0], [])),
        *(
            (BATCH_NORM, "text", "text", {"parallel": Parallel(r, 3)}, r"batch_size must be >= 6 .* 3")
            for r in range(3)
        ),
        ({}, "text", "labelled", {}, r"labels.*low, high"),
        ({}, "three", "labelled", {}, r"^labels must be .*1.*, got 2"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(
    changes: dict[str, Any], data: str, spec: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(train(new_state(text_settings(changes), spec), store_of(data), **({"until": 1, "every": 1} | options)))


def test_other_bad_data_are_refused() -> None:
    for kind, spec in (("text", small.IMAGE), ("image", TEXT)):
        with pytest.raises(ValueError, match=f"^kind must match the data, got '{kind}'"):
            TrainingState.new(small.settings_of(kind), spec)
    with pytest.raises(ValueError, match="there are no examples to validate on"):
        evaluate_reconstruction(new_state(text_settings()), TokenStore.from_rows([]))
    with pytest.raises(ValueError, match=r"^labels must be from 0 to 1, got -1"):
        BatchSampler(TokenStore.from_rows(small.sentences(13), [0, 1] * 6 + [-1]), small.LABELLED, 6, 7)
