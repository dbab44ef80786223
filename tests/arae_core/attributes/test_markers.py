"""Which words give a class away, by hand; a code that cannot tell them apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from arae_core.attributes.markers import attribute_markers
from arae_core.codecs.lstm import LSTMEncoder
from arae_core.data.batches import TokenStore
from arae_core.training.loop import train
from arae_core.training.state import TrainingState
from tests.arae_core.small import LABELLED, TEXT, THREE, store_of, text_settings


def test_counts_by_hand() -> None:
    """Class low has 6 tokens, high 3, so that counts are scaled by 4.5 / 6 and 4.5 / 3."""
    store = TokenStore.from_rows([[1, 1, 1, 4], [1, 6], [6, 3, 7]], [0, 0, 1])
    ratios = {1: (4 * 0.75 + 1) / 1, 4: (0.75 + 1) / 1, 6: (1.5 + 1) / (0.75 + 1), 7: 1.5 + 1}
    for ratio in (1.2, 1.5, 1.76, 2.6, 3.9, 4.1):
        found = np.flatnonzero(attribute_markers(store, LABELLED, ratio)).tolist()
        assert found == [word for word, value in ratios.items() if value >= ratio], ratio


def test_of_three_classes_a_word_of_two_tells_less_than_a_word_of_one() -> None:
    store = TokenStore.from_rows([[1, 4]] * 30 + [[1, 6]] * 30 + [[7, 8]] * 30, [0] * 30 + [1] * 30 + [2] * 30)
    assert np.flatnonzero(attribute_markers(store, THREE, 3)).tolist() == [4, 6, 7, 8]
    assert 1 in np.flatnonzero(attribute_markers(store, THREE, 1.9)), "against the mean of the others, 15 of 30"


@pytest.mark.parametrize("ratio", [1.0, 0.0, -3.0, float("nan")])
def test_a_ratio_that_every_word_has_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio must be > 1"):
        attribute_markers(TokenStore.from_rows([[1]], [0]), LABELLED, ratio)


def test_sentences_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="these sentences have none"):
        attribute_markers(TokenStore.from_rows([[1]]), LABELLED, 2.0)


def test_a_code_cannot_tell_markers_apart() -> None:
    rows = [[1, 4, 8]] * 20 + [[1, 6, 8]] * 20
    state = TrainingState.new(text_settings({"encoder.marker_ratio": 5.0}), LABELLED)
    *_, report = train(state, TokenStore.from_rows(rows, [0] * 20 + [1] * 20), until=3, every=3)
    encoder = state.encoder
    assert isinstance(encoder, LSTMEncoder) and encoder.markers is not None and report.step == 3
    assert encoder.markers.nonzero().flatten().tolist() == [4, 6]
    shown = TokenStore.from_rows([[1, 4, 8], [1, 6, 8], [1, TEXT.unknown, 8], [1, 9, 8]], [0, 1, 0, 0])
    with torch.no_grad():
        codes = state.encode(shown.batch(np.arange(4), LABELLED))
    torch.testing.assert_close(codes[0], codes[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(codes[0], codes[2], rtol=0, atol=1e-12)
    assert not torch.allclose(codes[0], codes[3])


def test_markers_are_of_the_beginning() -> None:
    """A run that goes on keeps them, whatever it goes on with."""
    state = TrainingState.new(text_settings({"encoder.marker_ratio": 1.3}), LABELLED)
    store = store_of("labelled")
    assert isinstance(store, TokenStore) and store.labels is not None
    list(train(state, store, until=2, every=2))
    assert isinstance(state.encoder, LSTMEncoder) and state.encoder.markers is not None
    before = state.encoder.markers.clone()
    assert before.any()
    list(train(state, TokenStore(store.ids, store.offsets, 1 - store.labels), until=3, every=3))
    assert torch.equal(state.encoder.markers, before)


@pytest.mark.parametrize("settings", [{}, {"encoder.marker_ratio": 3.0}])
def test_nothing_is_hidden_unless_asked_for_and_labelled(settings: dict[str, float]) -> None:
    shape = TEXT if settings else replace(LABELLED)
    encoder = TrainingState.new(text_settings(settings), shape).encoder
    assert isinstance(encoder, LSTMEncoder) and encoder.markers is None
    assert not any("markers" in name for name in encoder.state_dict())


def test_a_word_of_just_the_ratio_is_a_marker() -> None:
    """2 + 1 in the one class, 0 + 1 in the other."""
    store = TokenStore.from_rows([[7, 7, 8], [8, 8, 8]], [0, 1])
    assert attribute_markers(store, LABELLED, 3.0)[7] and not attribute_markers(store, LABELLED, 3.01)[7]
