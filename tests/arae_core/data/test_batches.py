"""Stores, batches, and the sampler: no token is lost, every example is used, ranks share the batches."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arae_core.algorithm import split
from arae_core.data import batches
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import (
    Batch,
    ImageBatch,
    ImageStore,
    TextBatch,
    TokenStore,
    class_shares,
    evenly_spaced,
    grouped_order,
    load_store,
)
from arae_core.data.data_spec import ImageSpec
from tests.arae_core.small import IMAGE, TEXT, THREE, WORDS, images, sentences

ROWS = sentences(113, longest=13)
STORE = TokenStore.from_rows(ROWS)
LABELS = [0 if sum(row) % 11 < 6 else 1 if sum(row) % 11 < 10 else 2 for row in ROWS]


def sampler(seed: int = 7, rank: int = 0, world: int = 1) -> BatchSampler:
    return BatchSampler(STORE, TEXT, 6, seed, rank=rank, world=world)


def words_of(batch: object) -> list[tuple[int, ...]]:
    """Return the words of each sentence of a batch."""
    assert isinstance(batch, TextBatch)
    return [tuple(row[1:n]) for row, n in zip(batch.source.tolist(), batch.lengths.tolist(), strict=True)]


def checked(batch: object) -> list[tuple[int, ...]]:
    """Return the words of each sentence of a batch; check special tokens and padding."""
    assert isinstance(batch, TextBatch)
    width = batch.source.shape[1]
    assert int(batch.lengths.max()) == width, "no column is all padding"
    for row, source, target in zip(words_of(batch), batch.source.tolist(), batch.target.tolist(), strict=True):
        padding = [TEXT.pad] * (width - len(row) - 1)
        assert source == [TEXT.start, *row, *padding]
        assert target == [*row, TEXT.end, *padding]
    return words_of(batch)


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=11), min_size=1, max_size=17), st.data())
def test_a_store_returns_its_sentences_and_batches_hold_them_in_order(rows: list[list[int]], data: Any) -> None:
    store = TokenStore.from_rows(rows)
    assert store.lengths.tolist() == [len(row) for row in rows]
    assert store.rows(range(len(store))) == rows
    assert (str(store.ids.dtype), str(store.offsets.dtype)) == ("int32", "int64")
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=13))
    batch = store.batch(np.array(indices), TEXT)
    assert checked(batch) == [tuple(rows[i]) for i in indices] and len(batch) == len(indices)
    assert len(TokenStore.from_rows([])) == 0


@pytest.mark.parametrize("limit", [1, 10**9])
def test_stores_are_saved_and_loaded(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large arrays are memory-mapped."""
    monkeypatch.setattr(batches, "MEMORY_MAP_BYTES", limit)
    STORE.save(tmp_path / "text")
    text = load_store(tmp_path / "text")
    assert isinstance(text, TokenStore) and text.rows(range(len(text))) == ROWS
    assert isinstance(text.ids, np.memmap) == (limit == 1)
    assert checked(text.batch(np.array([5, 3]), TEXT)) == [tuple(ROWS[5]), tuple(ROWS[3])]
    images().save(tmp_path / "images")
    found = load_store(tmp_path / "images")
    assert isinstance(found, ImageStore) and found.shape == IMAGE
    assert isinstance(found.pixels, np.memmap) == (limit == 1)
    assert np.array_equal(found.pixels, images().pixels)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, size) for name in ("ids.npy", "offsets.npy") for size in (0, 20, 150)),
        ("ids.npy", b"PK\x03\x04 no archive"),
        ("ids.npy", np.array([{}], object)),
        ("ids.npy", np.zeros((2, 3), np.int32)),
        ("offsets.npy", STORE.offsets.astype(float)),
        ("offsets.npy", STORE.offsets[:-1]),
        ("offsets.npy", np.zeros((), np.int64)),
        ("labels.npy", np.zeros(3, np.int64)),
    ],
)
def test_folders_without_a_complete_store_are_refused(name: str, content: Any, tmp_path: Path) -> None:
    """content: the number of bytes that are left, other bytes, or another array."""
    STORE.save(tmp_path / "bad")
    path = tmp_path / "bad" / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:content])
    for folder in ("bad", "absent"):
        with pytest.raises(ValueError, match=f"{folder} does not hold prepared examples"):
            load_store(tmp_path / folder)


@pytest.mark.parametrize("lengths", [None, STORE.lengths])
@pytest.mark.parametrize("batch_size", [1, 6, 113])
def test_an_epoch_has_every_example_and_few_twice(lengths: np.ndarray | None, batch_size: int) -> None:
    order = grouped_order(lengths, 113, batch_size, (3, 5))
    counts = Counter(order.flatten().tolist())
    assert order.shape == (-(-113 // batch_size), batch_size)
    assert set(counts) == set(range(113)) and max(counts.values()) <= 2
    assert sum(counts.values()) - 113 < batch_size


def grouped_lengths(lengths: np.ndarray | None) -> np.ndarray:
    return STORE.lengths[grouped_order(lengths, 113, 6, (3, 5))]


def test_batches_have_sentences_of_similar_length_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def padding(lengths: np.ndarray) -> float:
        return float(1 - (lengths + 1).sum() / ((lengths.max(1) + 1) * 6).sum())

    grouped = grouped_lengths(STORE.lengths)
    assert padding(grouped) < 0.1 < 0.3 < padding(grouped_lengths(None))
    longest = grouped.max(1).tolist()
    assert longest not in (sorted(longest), sorted(longest, reverse=True)), "short ones do not come first"
    spread = []
    for groups in (2, 19):
        monkeypatch.setattr(batches, "GROUPED_BATCHES", groups)
        lengths = grouped_lengths(STORE.lengths)
        spread.append((lengths.max(1) - lengths.min(1)).mean())
    assert spread[0] > 3 > 1 >= spread[1], "lengths are sorted within a group alone"


def test_two_epochs_share_no_batch() -> None:
    """Not even if all sentences have the same length."""
    orders = (grouped_order(np.full(113, 5), 113, 6, (3, 0, epoch)) for epoch in (0, 1))
    first, second = ({frozenset(batch) for batch in order.tolist()} for order in orders)
    assert not first & second


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_batches_of_one_process(world: int) -> None:
    alone, ranks = sampler(), [sampler(rank=rank, world=world) for rank in range(world)]
    for step in (0, 1, 18, 19, 40):
        whole, count = alone.reconstruction_batch(step)
        assert count == sum(len(row) + 1 for row in checked(whole))
        assert {rank.reconstruction_batch(step)[1] for rank in ranks} == {count}
        parts = [split(part.critic_batches(step, 5), 5) for part in ranks]
        for rank, part in enumerate(ranks):
            assert checked(part.reconstruction_batch(step)[0]) == checked(whole)[rank::world]
            assert checked(part.adversarial_batch(step)) == checked(alone.adversarial_batch(step))[rank::world]
        for block, *own in zip(split(alone.critic_batches(step, 5), 5), *parts, strict=True):
            assert [len(block), *map(len, own)] == [6] + [6 // world] * world
            assert sorted(chain(*map(words_of, own))) == sorted(words_of(block))


def test_batches_depend_on_seed_and_step_alone() -> None:
    forward, jumping = sampler(), sampler()
    seen = [checked(forward.reconstruction_batch(step)[0]) for step in range(40)]
    for step in (39, 0, 20, 19, 38):
        assert checked(jumping.reconstruction_batch(step)[0]) == seen[step]
        assert checked(jumping.critic_batches(step, 3)) == checked(forward.critic_batches(step, 3))
    assert checked(sampler(seed=8).reconstruction_batch(0)[0]) != seen[0]
    assert seen[:19] != seen[19:38], "another epoch, another order"
    assert checked(forward.critic_batches(0, 3)) != checked(forward.critic_batches(1, 3))
    assert checked(forward.adversarial_batch(0)) != seen[0]
    assert set(chain(*seen[:19])) == {tuple(row) for row in ROWS}


def test_image_batches_count_pixels() -> None:
    batch, targets = BatchSampler(images(), IMAGE, 6, 7, rank=1, world=2).reconstruction_batch(0)
    assert isinstance(batch, ImageBatch) and batch.pixels.dtype == torch.float32
    assert (len(batch), targets) == (3, 6 * 15)
    assert set(batch.pixels.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("batch_size", [6, 8])
def test_all_steps_but_reconstruction_see_classes_equally_often(batch_size: int, tmp_path: Path) -> None:
    TokenStore.from_rows(ROWS, LABELS).save(tmp_path)
    store = load_store(tmp_path)
    assert isinstance(store, TokenStore) and store.labels is not None and store.labels.tolist() == LABELS
    ranks = [BatchSampler(store, THREE, batch_size, 7, rank=rank, world=2) for rank in (0, 1)]
    known = {tuple(row): label for row, label in zip(ROWS, LABELS, strict=True)}
    most, seen = -(-batch_size // 3), Counter[tuple[int, ...]]()

    def counted(parts: list[Batch]) -> Counter[int]:
        found = Counter[int]()
        for part in parts:
            assert isinstance(part, TextBatch) and part.labels is not None
            rows, labels = words_of(part), part.labels.tolist()
            assert [known[row] for row in rows] == labels
            seen.update(rows)
            found.update(labels)
        return found

    for step in range(40):
        for parts in (
            [rank.adversarial_batch(step) for rank in ranks],
            [rank.classifier_batch(step) for rank in ranks],
        ):
            assert set(counted(parts).values()) <= {most, batch_size // 3}
        drawn = [split(rank.critic_batches(step, 2), 2) for rank in ranks]
        for both in zip(*drawn, strict=True):
            assert set(counted(list(both)).values()) <= {most, batch_size // 3}
    assert len(seen) == len(known), "every example occurs"
    seen.clear()
    epoch = range(ranks[0].batches_per_epoch)
    total = sum((counted([rank.reconstruction_batch(step)[0] for rank in ranks]) for step in epoch), Counter[int]())
    assert len(seen) == len(known) and total[0] > total[2] * 3, "reconstruction sees the data as they are"


def test_the_first_classes_get_the_remainder() -> None:
    labels = np.array([2, 0, 1, 0, 2, 0, 1])
    shares = [(members.tolist(), width) for members, width in class_shares(labels, 5)]
    assert shares == [([1, 3, 5], 2), ([2, 6], 2), ([0, 4], 1)]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((STORE, TEXT, 114, 0), {}, "batch_size must be <= .*113.*, got 114"),
        ((STORE, ImageSpec(3, 5), 6, 0), {}, "the model is for ImageSpec, the examples are a TokenStore"),
        ((images(), TEXT, 6, 0), {}, "the model is for TextSpec, the examples are a ImageStore"),
        ((STORE, TEXT, 6, 0), {"world": 7}, "batch_size must be >= .*7.*, got 6"),
        ((TokenStore.from_rows(ROWS, LABELS), THREE, 2, 7), {}, "batch_size must be >= .*3.*, got 2"),
    ],
)
def test_data_that_do_not_fit_are_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchSampler(*arguments, **options)
    with pytest.raises(ValueError, match=r"pixels must be of shape \(images, 15\), got \(2, 14\)"):
        ImageStore(np.zeros((2, 14), np.uint8), 3, 5)


@pytest.mark.parametrize(
    ("count", "most", "rows"),
    [(7, 3, [0, 3, 6]), (7, 2, [0, 6]), (7, 1, [0]), (3, 7, [0, 1, 2]), (11, 5, [0, 2, 5, 7, 10]), (0, 5, [])],
)
def test_evenly_spaced_rows_include_the_first_and_the_last(count: int, most: int, rows: list[int]) -> None:
    assert evenly_spaced(count, most).tolist() == rows
