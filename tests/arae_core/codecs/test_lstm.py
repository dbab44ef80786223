"""LSTM encoder and decoder of sentences."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from arae_core.codecs import TextDecoder
from arae_core.codecs.lstm import LSTMDecoder, LSTMEncoder
from arae_core.codecs.lstm_per_class import SeparateDecoders
from arae_core.codecs.text import IGNORED, ROUND
from arae_core.data.batches import TextBatch, TokenStore, drop_words
from arae_core.training.state import TrainingState
from tests.arae_core.small import TEXT, WORDS, sentences, text_settings

SETTINGS = text_settings({"encoder.hidden": (11, 11), "decoder.hidden": (13, 13)})
ROWS = sentences(13)
ENCODER, DECODER = LSTMEncoder(SETTINGS, TEXT).double(), LSTMDecoder(SETTINGS, TEXT).double()


def batch(rows: list[list[int]]) -> TextBatch:
    return TokenStore.from_rows(rows).batch(np.arange(len(rows)), TEXT)


def code(count: int = 13, seed: int = 1) -> Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_output_is_the_last_state_or_a_linear_map_of_it() -> None:
    for size in (11, 7):
        encoder = LSTMEncoder(text_settings({"code.size": size}), TEXT).double()
        _, (last, _) = encoder.lstm(encoder.embedding(torch.tensor([[TEXT.start, *ROWS[3]]])))
        assert isinstance(encoder.to_code, nn.Identity if size == 11 else nn.Linear)
        torch.testing.assert_close(encoder(batch([ROWS[3]])), encoder.to_code(last[-1]))


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_takes_the_mean_or_maximum_of_the_states(pooling: str) -> None:
    encoder = LSTMEncoder(text_settings({"code.size": 11, "encoder.pooling": pooling}), TEXT).double()
    states, _ = encoder.lstm(encoder.embedding(torch.tensor([[TEXT.start, *ROWS[3]]])))
    expected = states[0].mean(0) if pooling == "mean" else states[0].max(0).values
    torch.testing.assert_close(encoder(batch([ROWS[3]]))[0], expected)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_padding_changes_nothing(pooling: str) -> None:
    encoder = LSTMEncoder(text_settings({"encoder.pooling": pooling}), TEXT).double()
    padded = encoder(batch(ROWS))
    for row, together in zip(ROWS, padded, strict=True):
        torch.testing.assert_close(encoder(batch([row]))[0], together)


def test_padding_is_never_read() -> None:
    plain = batch(ROWS)
    inside = torch.arange(plain.source.shape[1]) < plain.lengths[:, None]
    scribbled = TextBatch(plain.source.where(inside, 7), plain.target.where(inside, 11), plain.lengths)
    assert torch.equal(ENCODER(plain), ENCODER(scribbled))
    assert torch.equal(DECODER.nll(plain, code()), DECODER.nll(scribbled, code()))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=7), min_size=1, max_size=11), st.integers(1, 13))
def test_encode_mixed_equals_encoding_one_by_one(rows: list[list[int]], parts: int) -> None:
    mixed = ENCODER.encode_mixed(batch(rows), parts)
    torch.testing.assert_close(mixed, torch.cat([ENCODER(batch([row])) for row in rows]))
    assert not mixed.requires_grad


def test_nll_is_the_sum_over_words_and_end_tokens() -> None:
    codes, expected = code(), torch.zeros((), dtype=torch.float64)
    for row, c in zip(ROWS, codes, strict=True):
        hidden, _ = DECODER(torch.tensor([[TEXT.start, *row]]), c[None])
        chances = DECODER.output(hidden[0]).softmax(1)
        expected = expected - sum(chances[t, word].log() for t, word in enumerate([*row, TEXT.end]))
    torch.testing.assert_close(DECODER.nll(batch(ROWS), codes), expected)


def test_the_number_of_logits_is_rounded_up() -> None:
    """A batch of sentences of one length is not rounded."""
    for rows in (ROWS, ROWS[:1], sentences(67, longest=5)):
        mixed = batch(rows)
        logits, target = DECODER.logits(mixed, code(len(rows)))
        valid = int(mixed.lengths.sum())
        assert len(logits) == len(target) == (valid if len(rows) == 1 else -(-valid // ROUND) * ROUND)
        assert (target[:valid] != IGNORED).all() and (target[valid:] == IGNORED).all()
        each = DECODER.nll_each(mixed, code(len(rows)))
        torch.testing.assert_close(each.sum().double(), DECODER.nll(mixed, code(len(rows))), rtol=1e-6, atol=0)


def test_score_counts_the_words_predicted_right() -> None:
    nll, right, count = DECODER.score(batch(ROWS), code())
    expected = 0
    for row, c in zip(ROWS, code(), strict=True):
        hidden, _ = DECODER(torch.tensor([[TEXT.start, *row]]), c[None])
        expected += int((DECODER.output(hidden[0]).argmax(1) == torch.tensor([*row, TEXT.end])).sum())
    assert (int(right), count) == (expected, sum(map(len, ROWS)) + len(ROWS))
    torch.testing.assert_close(nll, DECODER.nll(batch(ROWS), code()))


def test_the_decoder_reads_the_code_at_every_step() -> None:
    words = torch.tensor([[TEXT.start, *ROWS[6]]])
    whole, _ = DECODER(words, code(1))
    before, state = DECODER(words[:, :-1], code(1))
    last, _ = DECODER(words[:, -1:], code(1), state)
    torch.testing.assert_close(torch.cat([before, last], 1), whole)
    other, _ = DECODER(words[:, -1:], code(1, seed=2), state)
    assert not torch.allclose(other, last)


def test_every_number_of_the_code_gets_a_gradient() -> None:
    codes = code().requires_grad_()
    DECODER.nll(batch(ROWS), codes).backward()
    assert codes.grad is not None and bool((codes.grad != 0).all())


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_dropping_words_keeps_the_start_token_and_the_targets(share: float) -> None:
    plain = batch(ROWS)
    uniform = torch.rand(13, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    dropped = drop_words(plain, share, TEXT.unknown, uniform)
    assert torch.equal(dropped.target, plain.target) and torch.equal(dropped.lengths, plain.lengths)
    assert bool((dropped.source[:, 0] == TEXT.start).all())
    hidden = dropped.source[:, 1:] == TEXT.unknown
    assert torch.equal(hidden, uniform[:, 1 : plain.source.shape[1]] < share)
    assert torch.equal(dropped.source[:, 1:][~hidden], plain.source[:, 1:][~hidden])
    assert bool((plain.source != TEXT.unknown).all()), "the batch itself is unchanged"


def test_remembering_opens_the_forget_gates() -> None:
    settings = text_settings({"initialization": "remembering"})
    plain = TrainingState.new(text_settings(), TEXT).modules.state_dict()
    hidden = {"encoder": settings.encoder.hidden[0], "decoder": settings.decoder.hidden[0]}
    for name, value in TrainingState.new(settings, TEXT).modules.state_dict().items():
        if ".lstm.bias" in name:
            width = hidden[name.split(".")[0]]
            assert torch.equal(value[width : 2 * width], torch.full((width,), float("bias_ih" in name)))
            value = torch.cat([value[:width], value[2 * width :]])
            expected = torch.cat([plain[name][:width], plain[name][2 * width :]])
            assert torch.equal(value, expected)
        else:
            assert torch.equal(value, plain[name]), name


def test_separate_decoders_round_their_rows_up_without_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast, each decoder reads a multiple of ROWS sentences."""
    spec = replace(TEXT, classes=("low", "middle", "high"))
    torch.manual_seed(7)
    decoders = SeparateDecoders(text_settings({"decoder.conditioning": "separate"}), spec).double()
    labels = torch.arange(len(ROWS)) % 3
    mixed = replace(batch(ROWS), labels=labels)
    read: list[int] = []
    for decoder in decoders.decoders:
        assert isinstance(decoder, LSTMDecoder)
        decoder.lstm.register_forward_pre_hook(lambda _, given: read.append(len(given[0])))
    found = []
    for autocast in (False, True):
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda _, on=autocast: on)
        fed = code(len(ROWS)).double().requires_grad_()
        nll = decoders.nll(mixed, fed)
        found.append([nll, *torch.autograd.grad(nll, [fed, *decoders.parameters()])])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    assert read == [len(labels[labels == y]) for y in range(3)] + [8, 8, 8] and 8 not in read[:3]


@pytest.mark.parametrize("conditioning", ["embedding", "separate"])
def test_selected_sentences_continue_as_if_alone(conditioning: str) -> None:
    spec = replace(TEXT, classes=("low", "middle", "high"))
    state = TrainingState.new(text_settings({"decoder.conditioning": conditioning}), spec)
    decoder, codes, labels = cast(TextDecoder, state.decoder), code(23), torch.arange(23) % 3
    words = torch.tensor([WORDS[i % len(WORDS)] for i in range(23)])
    left, (_, state_of_all) = torch.arange(23), decoder.step(decoder.start(codes, labels), words)
    for rows in (torch.tensor([19, 4, 7, 0, 22, 11, 2]), torch.tensor([5, 1, 3])):
        left, state_of_all = left[rows], decoder.select(state_of_all, rows)
        _, alone = decoder.step(decoder.start(codes[left], labels[left]), words[left])
        torch.testing.assert_close(decoder.step(state_of_all, words[left])[0], decoder.step(alone, words[left])[0])
