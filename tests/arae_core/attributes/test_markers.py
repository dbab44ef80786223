"""Attribute markers: counts by hand, and codes that do not depend on them."""

from typing import Any

import numpy as np
import pytest
import torch

from arae_core.attributes.markers import attribute_markers
from arae_core.codecs.lstm import LSTMEncoder
from arae_core.data.batches import TokenStore
from arae_core.training.loop import train
from arae_core.training.state import TrainingState
from tests.arae_core.small import LABELLED, TEXT, THREE, new_state, run, store_of, text_settings


def encoder_of(state: TrainingState) -> LSTMEncoder:
    encoder = state.modules["encoder"]
    assert isinstance(encoder, LSTMEncoder)
    return encoder


def test_counts_by_hand() -> None:
    """Class low has 6 tokens, high 3, so counts are scaled by 4.5 / 6 and 4.5 / 3."""
    store = TokenStore.from_rows([[1, 1, 1, 4], [1, 6], [6, 3, 7]], [0, 0, 1])
    ratios = {1: (4 * 0.75 + 1) / 1, 4: (0.75 + 1) / 1, 6: (1.5 + 1) / (0.75 + 1), 7: 1.5 + 1}
    for ratio in (1.2, 1.5, 1.76, 2.6, 3.9, 4.1):
        found = np.flatnonzero(attribute_markers(store, LABELLED, ratio)).tolist()
        assert found == [word for word, value in ratios.items() if value >= ratio], ratio
    equal = TokenStore.from_rows([[7, 7, 8], [8, 8, 8]], [0, 1])  # 2 + 1 against 0 + 1
    assert attribute_markers(equal, LABELLED, 3.0)[7] and not attribute_markers(equal, LABELLED, 3.01)[7]


def test_a_word_of_two_of_three_classes_is_weaker_evidence() -> None:
    store = TokenStore.from_rows([[1, 4]] * 30 + [[1, 6]] * 30 + [[7, 8]] * 30, [0] * 30 + [1] * 30 + [2] * 30)
    assert np.flatnonzero(attribute_markers(store, THREE, 3)).tolist() == [4, 6, 7, 8]
    assert 1 in np.flatnonzero(attribute_markers(store, THREE, 1.9)), "the mean of the others is 15 of 30"


@pytest.mark.parametrize(
    ("labels", "ratio", "message"),
    [
        *(([0], ratio, "ratio must be > 1") for ratio in (1.0, 0.0, -3.0, float("nan"))),
        (None, 2.0, "labels"),
    ],
)
def test_bad_ratios_and_missing_labels_are_refused(labels: Any, ratio: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute_markers(TokenStore.from_rows([[1]], labels), LABELLED, ratio)


def test_codes_do_not_depend_on_the_marker() -> None:
    rows = [[1, 4, 8]] * 20 + [[1, 6, 8]] * 20
    state = new_state(text_settings({"encoder.marker_ratio": 5.0}), "labelled")
    list(train(state, TokenStore.from_rows(rows, [0] * 20 + [1] * 20), until=3, every=3))
    markers = encoder_of(state).markers
    assert markers is not None and markers.nonzero().flatten().tolist() == [4, 6]
    shown = TokenStore.from_rows([[1, 4, 8], [1, 6, 8], [1, TEXT.unknown, 8], [1, 9, 8]], [0, 1, 0, 0])
    with torch.no_grad():
        codes = state.encode(shown.batch(np.arange(4), LABELLED))
    torch.testing.assert_close(codes[:3], codes[:1].expand(3, -1), rtol=0, atol=1e-12)
    assert not torch.allclose(codes[0], codes[3])


def test_a_continued_run_keeps_its_markers() -> None:
    state = new_state(text_settings({"encoder.marker_ratio": 1.3}), "labelled")
    run(state, 2, "labelled")
    markers, store = encoder_of(state).markers, store_of("labelled")
    assert markers is not None and markers.any()
    assert isinstance(store, TokenStore) and store.labels is not None
    before = markers.clone()
    list(train(state, TokenStore(store.ids, store.offsets, 1 - store.labels), until=3, every=3))
    assert torch.equal(markers, before)


@pytest.mark.parametrize(("ratio", "kind"), [(0.0, "labelled"), (3.0, "text")])
def test_nothing_is_hidden_without_a_ratio_or_labels(ratio: float, kind: str) -> None:
    encoder = encoder_of(new_state(text_settings({"encoder.marker_ratio": ratio}), kind))
    assert encoder.markers is None
    assert not any("markers" in name for name in encoder.state_dict())
