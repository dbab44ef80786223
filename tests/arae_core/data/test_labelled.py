"""Labelled examples of one or two sentences: batches, balanced subsets, files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arae_core.data.batches import ImageStore, TokenStore
from arae_core.data.labelled import LabelledStore, load_labelled
from tests.arae_core.small import TEXT, sentences

ROWS = sentences(26)
PAIRS = [(ROWS[2 * i], ROWS[2 * i + 1]) for i in range(13)]
LABELS = [0, 1, 2, 0, 0, 1, 0, 2, 0, 1, 0, 0, 2]
STORE = LabelledStore.from_rows(PAIRS, LABELS)


def test_a_batch_holds_the_sentences_of_one_example_after_another() -> None:
    batch, labels = STORE.batch(np.array([7, 2, 11]), TEXT, torch.device("cpu"))
    assert labels.tolist() == [2, 2, 0] and len(batch) == 6
    for row, expected in zip(batch.source, [*PAIRS[7], *PAIRS[2], *PAIRS[11]], strict=True):
        assert row[1 : 1 + len(expected)].tolist() == expected
    assert (len(STORE), STORE.per_example) == (13, 2)
    part = STORE.of(np.array([5, 1]))
    assert part.labels.tolist() == [1, 1]
    assert part.sentences.rows(range(4)) == [*PAIRS[5], *PAIRS[1]]


@pytest.mark.parametrize(("count", "of_each"), [(9, [3, 3, 3]), (7, [3, 2, 2]), (3, [1, 1, 1])])
def test_classes_are_balanced(count: int, of_each: list[int]) -> None:
    chosen = STORE.balanced(count, seed=3)
    assert np.bincount(STORE.labels[chosen]).tolist() == of_each
    assert len(set(chosen)) == count
    assert np.array_equal(chosen, STORE.balanced(count, seed=3))
    assert set(chosen) <= set(STORE.balanced(9, seed=3)), "a larger subset contains the smaller one"
    assert len({tuple(STORE.balanced(6, seed)) for seed in range(7)}) > 3
    with pytest.raises(ValueError, match=r"labels must be <= 9, .*got 11"):
        STORE.balanced(11, 0)


def test_a_random_subset_comes_from_all_of_the_data() -> None:
    data = LabelledStore.from_rows([[[4 + i]] for i in range(97)], [0] * 97)
    first, other = data.drawn(11, 0), data.drawn(11, 1)
    assert len(set(first.tolist())) == 11 and np.array_equal(first, np.sort(first))
    assert first.max() > 20 and not np.array_equal(first, other) and np.array_equal(first, data.drawn(11, 0))
    assert np.array_equal(data.drawn(200, 0), np.arange(97)), "all, if there are fewer"


def test_a_saved_store_is_loaded(tmp_path: Path) -> None:
    STORE.save(tmp_path / "store")
    loaded = load_labelled(tmp_path / "store")
    assert loaded.labels.tolist() == LABELS and loaded.per_example == 2
    assert loaded.sentences.rows(range(26)) == ROWS


def test_other_folders_and_odd_sentences_are_refused(tmp_path: Path) -> None:
    TokenStore.from_rows(ROWS).save(tmp_path / "plain")
    for content in (None, b"PK\x03\x04 no archive", b""):
        if content is not None:
            (tmp_path / "plain" / "classes.npy").write_bytes(content)
        with pytest.raises(ValueError, match="plain does not hold labelled examples"):
            load_labelled(tmp_path / "plain")
    ImageStore(np.zeros((2, 6), np.uint8), 2, 3).save(tmp_path / "images")
    np.save(tmp_path / "images" / "classes.npy", np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="images holds images, not sentences"):
        load_labelled(tmp_path / "images")
    with pytest.raises(ValueError, match=r"5 sentences .* 2 labelled examples"):
        LabelledStore(TokenStore.from_rows(ROWS[:5]), np.zeros(2, np.int64))
