"""CUDA graphs: training on padded batches and with captured steps gives the same weights as calling the steps."""

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from arae_core.algorithm import iteration, run_eagerly
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import PaddedBatch, TokenStore, drop_words
from arae_core.data.device_dataset import WIDTHS, PaddedSentences
from arae_core.runtime.cuda_graphs import GraphRunner, graph_stream, make_step_runner
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState
from tests.arae_core import small
from tests.arae_core.small import TEXT, assert_same, new_state, sentences, settings_of, spec_of, store_of, weights

ITERATIONS = 20
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "text wgan-gp": ("text", {"encoder.word_dropout": 0.3, "generator.average": 0.9, "code.noise_decay": 0.5}),
    "text wgan-clip": ("text", {"critic.objective": "wgan-clip", "decoder.word_dropout": 0.2}),
    "text, states pooled": ("text", {"encoder.pooling": "max", "critic.objective": "none"}),
    "text, mean of states": ("text", {"encoder.pooling": "mean", "prior.kind": "gaussian"}),
    "text, weights decay": ("text", {"encoder.weight_decay": 0.1, "critic.weight_decay": 0.3, "cooldown": 0.1}),
    "text, gradient descent": ("text", {"encoder.optimizer": "sgd", "decoder.optimizer": "sgd", "cooldown": 1.0}),
    "text, encoder each critic step": ("text", {"encoder.adversarial_each_critic_step": True}),
    "two classes": ("labelled", {}),
    "two classes, markers hidden": ("labelled", {"encoder.marker_ratio": 1.3}),
    "two classes, summed updates": ("labelled", {"encoder.updates": "summed"}),
    "two classes, separate decoders": ("labelled", {"decoder.conditioning": "separate"}),
    "three classes, aligned": ("three", {"decoder.alignment_weight": 0.5, "critic.objective": "none"}),
    "image": ("image", {"encoder.adversarial_each_critic_step": True}),
}
"""Name -> kind of data, settings."""


def run(kind: str, changes: dict[str, Any], padded_to: int) -> dict[str, Tensor]:
    """Return the weights after seven iterations on a CPU."""
    settings = settings_of(kind, changes)
    data = BatchSampler(store_of(kind), spec_of(kind), 8, settings.seed, padded_to=padded_to)
    state = TrainingState.new(settings, spec_of(kind))
    for _ in range(7):
        iteration(state, data, Parallel())
    return weights(state)


@pytest.mark.parametrize("name", CASES)
def test_padded_batches_train_the_same(name: str) -> None:
    kind, changes = CASES[name]
    assert_same(run(kind, changes, 0), run(kind, changes, 7), 1e-9)


@pytest.mark.parametrize("fits", [True, False])
def test_padded_batches_have_few_widths_and_hold_the_same_sentences(fits: bool) -> None:
    """Sentences that exceed the device's memory stay in main memory."""
    rows = sentences(61, longest=29)
    store, longest = TokenStore.from_rows(rows, [i % 2 for i in range(61)]), 29
    with patch("arae_core.data.device_dataset._fits", return_value=fits):
        padded = PaddedSentences(store, TEXT, longest, torch.device("cpu"))
    assert (padded.rows is not None) == fits
    widths = set()
    for seed in range(40):
        indices = np.random.default_rng(seed).integers(61, size=3)
        mine, plain = padded.batch(indices), store.batch(indices, TEXT)
        assert isinstance(mine, PaddedBatch) and mine.labels is not None and plain.labels is not None
        assert mine.lengths.tolist() == plain.lengths.tolist() and mine.labels.tolist() == plain.labels.tolist()
        for i, length in enumerate(plain.lengths.tolist()):
            assert mine.source[i, :length].tolist() == plain.source[i, :length].tolist()
            assert mine.target[i, :length].tolist() == plain.target[i, :length].tolist()
            assert set(mine.target[i, length:].tolist()) <= {TEXT.pad}
        widths.add(mine.source.shape[1])
        assert plain.source.shape[1] <= mine.source.shape[1] < plain.source.shape[1] + padded.step
    assert 2 < len(widths) <= WIDTHS and max(widths) == longest + 1


def test_steps_are_called_on_a_cpu() -> None:
    assert make_step_runner(new_state(settings_of("text")), Parallel()) is None
    with graph_stream(run_eagerly):
        pass


def test_a_padded_batch_stays_padded_when_words_are_dropped() -> None:
    batch = PaddedSentences(TokenStore.from_rows(sentences()), TEXT, 7, torch.device("cpu")).batch(np.arange(5))
    dropped = drop_words(batch, 0.5, TEXT.unknown, torch.zeros(5, 8))
    assert isinstance(dropped, PaddedBatch)
    assert set(dropped.source[:, 1:].flatten().tolist()) == {TEXT.unknown}


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@on_gpu
@pytest.mark.parametrize("name", CASES)
def test_captured_steps_train_as_called_ones(name: str) -> None:
    kind, changes = CASES[name]
    results = []
    for graphs in ("auto", "off"):
        settings = settings_of(kind, changes | {"precision": "float32", "cuda_graphs": graphs})
        state = TrainingState.new(settings, spec_of(kind), "cuda")
        small.run(state, ITERATIONS, kind, every=7)
        results.append(weights(state))
    assert_same(results[0], results[1], 1e-5)


@on_gpu
def test_every_step_of_a_run_is_captured() -> None:
    state = TrainingState.new(settings_of("labelled", {"precision": "float32"}), spec_of("labelled"), "cuda")
    runner = make_step_runner(state, Parallel())
    assert isinstance(runner, GraphRunner)
    data = BatchSampler(store_of("labelled"), spec_of("labelled"), 8, 5, device="cuda", padded_to=7)
    with graph_stream(runner):
        for _ in range(ITERATIONS):
            iteration(state, data, Parallel(), runner)
    assert not runner.failed
    steps = {key[0] for key, graph in runner.graphs.items() if graph.graph is not None}
    adversarial = {"critic_step", "encoder_adversarial_step", "generator_step", "attribute_adversarial_step"}
    assert steps == {"reconstruction_step", "classifier_step"} | adversarial
