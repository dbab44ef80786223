"""The stores keep every token, the batches every example, and the ranks share them out."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
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
from tests.arae_core.small import IMAGE, TEXT, WORDS, images, sentences

ROWS = sentences(113, longest=13)
STORE = TokenStore.from_rows(ROWS)


def feed(seed: int = 7, rank: int = 0, world: int = 1, batch_size: int = 6) -> BatchSampler:
    return BatchSampler(STORE, TEXT, batch_size, seed, rank=rank, world=world)


def rows(batch: object) -> list[tuple[int, ...]]:
    """The sentences of a batch, checked mark by mark."""
    assert isinstance(batch, TextBatch)
    found = []
    tensors = (batch.source, batch.target, batch.lengths)
    for source, target, length in zip(*(tensor.tolist() for tensor in tensors), strict=True):
        row = source[1:length]
        assert source == [TEXT.start, *row] + [TEXT.pad] * (len(source) - length)
        assert target == [*row, TEXT.end] + [TEXT.pad] * (len(source) - length)
        found.append(tuple(row))
    assert max(batch.lengths.tolist()) == batch.source.shape[1], "no column is all padding"
    return found


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=11), max_size=17))
def test_token_store_gives_back_what_it_was_given(given_rows: list[list[int]]) -> None:
    store = TokenStore.from_rows(given_rows)
    assert len(store) == len(given_rows)
    assert store.lengths.tolist() == [len(row) for row in given_rows]
    assert store.rows(range(len(store))) == given_rows
    assert (str(store.ids.dtype), str(store.offsets.dtype)) == ("int32", "int64")


@hypothesis_settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=11), min_size=1, max_size=17), st.data())
def test_a_batch_holds_its_sentences_in_order(given_rows: list[list[int]], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(given_rows) - 1), min_size=1, max_size=13))
    batch = TokenStore.from_rows(given_rows).batch(np.array(indices), TEXT)
    assert rows(batch) == [tuple(given_rows[i]) for i in indices]
    assert len(batch) == len(indices)


@pytest.mark.parametrize("limit", [1, 10**9])
def test_stores_come_back_from_disk_mapped_or_read(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MEMORY_MAP_BYTES", limit)
    STORE.save(tmp_path / "text")
    text = load_store(tmp_path / "text")
    assert isinstance(text, TokenStore) and text.rows(range(len(text))) == ROWS
    assert isinstance(text.ids, np.memmap) == (limit == 1)
    assert rows(text.batch(np.array([5, 3]), TEXT)) == [tuple(ROWS[5]), tuple(ROWS[3])]
    images().save(tmp_path / "images")
    found = load_store(tmp_path / "images")
    assert isinstance(found, ImageStore) and found.shape == IMAGE
    assert isinstance(found.pixels, np.memmap) == (limit == 1)
    assert np.array_equal(found.pixels, images().pixels)


def test_a_folder_without_a_whole_store_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent does not hold prepared examples"):
        load_store(tmp_path / "absent")
    for name in ("ids.npy", "offsets.npy"):
        for keep in (0, 20, 150):
            STORE.save(tmp_path / "clip_rows")
            data = (tmp_path / "clip_rows" / name).read_bytes()
            (tmp_path / "clip_rows" / name).write_bytes(data[:keep])
            with pytest.raises(ValueError, match=r"cut does not hold prepared examples"):
                load_store(tmp_path / "clip_rows")
    STORE.save(tmp_path / "pickled")
    np.save(tmp_path / "pickled" / "ids.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickled does not hold prepared examples"):
        load_store(tmp_path / "pickled")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.npy", b"PK\x03\x04 no archive"),
        ("ids.npy", np.zeros((2, 3), np.int32)),
        ("offsets.npy", STORE.offsets.astype(float)),
        ("offsets.npy", STORE.offsets[:-1]),
        ("offsets.npy", np.zeros((), np.int64)),
        ("labels.npy", np.zeros(3, np.int64)),
    ],
)
def test_arrays_of_another_store_are_refused(name: str, content: Any, tmp_path: Path) -> None:
    STORE.save(tmp_path / "other")
    if isinstance(content, bytes):
        (tmp_path / "other" / name).write_bytes(content)
    else:
        np.save(tmp_path / "other" / name, content)
    with pytest.raises(ValueError, match=r"other does not hold prepared examples"):
        load_store(tmp_path / "other")


def test_pixels_must_fill_the_image() -> None:
    with pytest.raises(ValueError, match=r"pixels must be of shape \(images, 15\), got \(2, 14\)"):
        ImageStore(np.zeros((2, 14), np.uint8), 3, 5)


@pytest.mark.parametrize("lengths", [None, STORE.lengths])
@pytest.mark.parametrize("batch_size", [1, 6, 113])
def test_every_example_comes_once_and_few_twice(lengths: np.ndarray | None, batch_size: int) -> None:
    order = grouped_order(lengths, 113, batch_size, (3, 5))
    counts = Counter(order.flatten().tolist())
    assert order.shape == (-(-113 // batch_size), batch_size)
    assert set(counts) == set(range(113)) and max(counts.values()) <= 2
    assert sum(counts.values()) - 113 < batch_size


def test_batches_have_sentences_of_like_length_in_random_order() -> None:
    order = grouped_order(STORE.lengths, 113, 6, (3, 5))
    lengths = STORE.lengths[order] + 1
    padding = 1 - lengths.sum() / (lengths.max(1) * 6).sum()
    plain = grouped_order(None, 113, 6, (3, 5))
    plain_lengths = STORE.lengths[plain] + 1
    assert padding < 0.1 < 0.3 < 1 - plain_lengths.sum() / (plain_lengths.max(1) * 6).sum()
    longest = lengths.max(1).tolist()
    assert longest not in (sorted(longest), sorted(longest, reverse=True)), "short ones do not come first"


def test_groups_mix_examples_from_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs' batches differ in membership, also where sentences are all of one length."""
    same = np.full(113, 5)
    first, second = (grouped_order(same, 113, 6, (3, 0, epoch)) for epoch in (0, 1))
    members = [{frozenset(batch) for batch in order.tolist()} for order in (first, second)]
    assert not members[0] & members[1]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_out_the_batches_of_one_process(world: int) -> None:
    alone, ranks = feed(), [feed(rank=rank, world=world) for rank in range(world)]
    for step in (0, 1, 18, 19, 40):
        whole, count = alone.reconstruct(step)
        assert count == sum(len(row) + 1 for row in rows(whole))
        assert {rank.reconstruct(step)[1] for rank in ranks} == {count}
        for rank, part in enumerate(ranks):
            assert rows(part.reconstruct(step)[0]) == rows(whole)[rank::world]
            assert rows(part.confuse(step)) == rows(alone.confuse(step))[rank::world]
            pool, mine = split(alone.criticise(step, 5), 5), split(part.criticise(step, 5), 5)
            for block, share in zip(pool, mine, strict=True):
                assert [len(block), len(share)] == [6, 6 // world]
        for i, block in enumerate(split(alone.criticise(step, 5), 5)):
            shares = [_valid(split(part.criticise(step, 5), 5)[i]) for part in ranks]
            assert sorted(chain(*shares)) == sorted(_valid(block))


def _valid(batch: object) -> list[tuple[int, ...]]:
    assert isinstance(batch, TextBatch)
    return [tuple(row[1:n]) for row, n in zip(batch.source.tolist(), batch.lengths.tolist(), strict=True)]


def test_batches_follow_from_seed_and_step_alone() -> None:
    forward, jumping = feed(), feed()
    seen = [rows(forward.reconstruct(step)[0]) for step in range(40)]
    for step in (39, 0, 20, 19, 38):
        assert rows(jumping.reconstruct(step)[0]) == seen[step]
        assert rows(jumping.criticise(step, 3)) == rows(forward.criticise(step, 3))
    assert rows(feed(seed=8).reconstruct(0)[0]) != seen[0]
    assert seen[:19] != seen[19:38], "another epoch, another order"
    assert rows(forward.criticise(0, 3)) != rows(forward.criticise(1, 3))
    assert rows(forward.confuse(0)) != seen[0]
    assert set(chain(*seen[:19])) == {tuple(row) for row in ROWS}


def test_image_batches_count_pixels() -> None:
    images_feed = BatchSampler(images(), IMAGE, 6, 7, rank=1, world=2)
    batch, targets = images_feed.reconstruct(0)
    assert isinstance(batch, ImageBatch) and batch.pixels.dtype == torch.float32
    assert (len(batch), targets) == (3, 6 * 15)
    assert set(batch.pixels.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((STORE, TEXT, 114, 0), "batch_size must be <= the 113 training examples there are, got 114"),
        ((STORE, ImageSpec(3, 5), 6, 0), "the model is for ImageSpec, the examples are a TokenStore"),
        ((images(), TEXT, 6, 0), "the model is for TextSpec, the examples are a ImageStore"),
    ],
)
def test_a_feed_that_cannot_be_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchSampler(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be >= the 7 workers, got 6"):
        feed(world=7)


LABELS = [0 if sum(row) % 11 < 6 else 1 if sum(row) % 11 < 10 else 2 for row in ROWS]


@pytest.mark.parametrize("batch_size", [6, 8])
def test_classes_come_in_equal_measure_but_to_reconstruction(batch_size: int, tmp_path: Path) -> None:
    TokenStore.from_rows(ROWS, LABELS).save(tmp_path)
    store = load_store(tmp_path)
    assert isinstance(store, TokenStore) and store.labels is not None and store.labels.tolist() == LABELS
    three = replace(TEXT, classes=("a", "b", "c"))
    every = [BatchSampler(store, three, batch_size, 7, rank=rank, world=2) for rank in (0, 1)]
    known = {tuple(row): label for row, label in zip(ROWS, LABELS, strict=True)}
    most, seen = -(-batch_size // 3), Counter[tuple[int, ...]]()

    def counted(parts: list[Batch]) -> Counter[int]:
        for part in parts:
            assert isinstance(part, TextBatch) and part.labels is not None
            part = part.rows(torch.arange(len(part)))  # a batch of several in one is wider
            assert part.labels is not None
            assert [known[row] for row in rows(part)] == part.labels.tolist()
            seen.update(rows(part))
        return Counter(label for part in parts for label in part.labels.tolist())  # type: ignore[union-attr]

    for step in range(40):
        for parts in ([f.confuse(step) for f in every], [f.classify(step) for f in every]):
            assert set(counted(parts).values()) <= {most, batch_size // 3}
        drawn = [split(f.criticise(step, 2), 2) for f in every]
        for both in zip(*drawn, strict=True):
            assert set(counted(list(both)).values()) <= {most, batch_size // 3}
    assert len(seen) == len(known), "every example comes in the end"
    batches_of_one_epoch = range(every[0].batches_per_epoch)
    seen.clear()
    total = sum((counted([f.reconstruct(step)[0] for f in every]) for step in batches_of_one_epoch), Counter[int]())
    assert len(seen) == len(known) and total[0] > total[2] * 3, "reconstruction sees the data as they are"


def test_a_batch_has_room_for_every_class() -> None:
    with pytest.raises(ValueError, match="batch_size must be >= the 3 classes there are, got 2"):
        BatchSampler(TokenStore.from_rows(ROWS, LABELS), replace(TEXT, classes=("a", "b", "c")), 2, 7)


def test_lengths_are_compared_within_a_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an epoch's batches would be the same ones in every epoch, but for sentences of one length."""
    monkeypatch.setattr(batches, "GROUPED_BATCHES", 2)
    lengths = STORE.lengths[grouped_order(STORE.lengths, 113, 6, (3, 5))]
    spread = lengths.max(1) - lengths.min(1)
    monkeypatch.setattr(batches, "GROUPED_BATCHES", 19)
    lengths = STORE.lengths[grouped_order(STORE.lengths, 113, 6, (3, 5))]
    assert spread.mean() > 3 > 1 >= (lengths.max(1) - lengths.min(1)).mean()


@pytest.mark.parametrize(
    ("count", "most", "rows"),
    [(7, 3, [0, 3, 6]), (7, 2, [0, 6]), (7, 1, [0]), (3, 7, [0, 1, 2]), (11, 5, [0, 2, 5, 7, 10]), (0, 5, [])],
)
def test_rows_evenly_spaced_are_of_the_first_to_the_last(count: int, most: int, rows: list[int]) -> None:
    assert evenly_spaced(count, most).tolist() == rows


def test_the_first_classes_have_what_does_not_divide() -> None:
    labels = np.array([2, 0, 1, 0, 2, 0, 1])
    shares = [(members.tolist(), width) for members, width in class_shares(labels, 5)]
    assert shares == [([1, 3, 5], 2), ([2, 6], 2), ([0, 4], 1)]
