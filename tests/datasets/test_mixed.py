"""Several datasets as one: exact shares, evenly spread, at any place in constant time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import equal_rows

from tisslm.contracts import Dataset, Rows
from tisslm.datasets import MixedDataset, PackedDataset, TokenDataset, TokenDocuments
from tisslm.datasets.mixed import shares
from tisslm.errors import ConfigError

PARTS = st.lists(st.tuples(st.integers(1, 60), st.floats(0.01, 100.0)), min_size=1, max_size=5)


def dataset(rows: int, first: int = 0) -> TokenDataset:
    return TokenDataset(np.arange(first, first + rows * 2 + 1), 2)


def mixed(parts: list[tuple[int, float]]) -> MixedDataset:
    return MixedDataset([(dataset(rows, 1000 * s), w) for s, (rows, w) in enumerate(parts)])


def source_of(data: MixedDataset, rows: list[int]) -> list[int]:
    return [int(data.window(row).x[0]) // 1000 for row in rows]


@settings(deadline=None)
@given(parts=PARTS, seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_has_the_exact_shares_evenly_spread(
    parts: list[tuple[int, float]], seed: int, epoch: int
) -> None:
    data = mixed(parts)
    n = sum(rows for rows, _ in parts)
    sources = source_of(data, data.order(seed, epoch)[:])
    share = shares([w for _, w in parts], n)
    assert len(sources) == len(data) == n == sum(share)
    total = sum(w for _, w in parts)
    assert all(abs(k - n * w / total) < 1 for k, (_, w) in zip(share, parts, strict=True))
    counts = Counter(sources)
    assert [counts[s] for s in range(len(parts))] == share
    for s, k in enumerate(share):
        so_far = np.cumsum([source == s for source in sources])
        assert np.abs(so_far - np.arange(1, n + 1) * k / n).max() <= len(parts)


@settings(deadline=None)
@given(parts=PARTS, seed=st.integers(0, 5))
def test_each_dataset_gives_all_its_rows_before_one_comes_again(
    parts: list[tuple[int, float]], seed: int
) -> None:
    data = mixed(parts)
    rows = [row for epoch in range(3) for row in data.order(seed, epoch)[:]]
    firsts = np.cumsum([0, *(n for n, _ in parts)])
    for s, (n, _) in enumerate(parts):
        own = [row - firsts[s] for row in rows if firsts[s] <= row < firsts[s + 1]]
        for start in range(0, len(own), n):
            part = own[start : start + n]
            assert len(set(part)) == len(part)
            assert len(part) < n or sorted(part) == list(range(n))


@settings(deadline=None)
@given(parts=PARTS, start=st.integers(0, 400), count=st.integers(0, 30))
def test_any_place_is_the_same_alone(
    parts: list[tuple[int, float]], start: int, count: int
) -> None:
    order = mixed(parts).order(1, 2)
    stop = min(start + count, len(order))
    start = min(start, stop)
    assert order.take(start, stop).tolist() == [order[i] for i in range(start, stop)]
    assert order[-1] == order[len(order) - 1]
    with pytest.raises(IndexError):
        order[len(order)]


@pytest.mark.parametrize("size", [1, 4, 300])
def test_batches_can_begin_anywhere(size: int) -> None:
    parts = [(30, 1.0), (200, 2.0), (7, 5.0)]
    per_epoch = -(-237 // size)
    whole = list(islice(mixed(parts).batches(size, 3), 2 * per_epoch + 2))
    assert len(whole[per_epoch - 1].x) == (237 % size or size)
    for start in (1, per_epoch - 1, per_epoch, per_epoch + 1):
        stream = mixed(parts).stream(size, 3, start)
        for batch in whole[start : start + 3]:
            assert equal_rows(next(stream), batch)


def test_two_datasets_of_a_length_are_shuffled_apart_and_seeds_differ() -> None:
    data = mixed([(50, 1.0), (50, 1.0)])
    order = data.order(1, 0)[:]
    first, second = ([r % 50 for r in order if r // 50 == s] for s in range(2))
    assert first != second
    assert order != data.order(2, 0)[:]
    assert order == data.order(1, 0)[:]


def test_rows_with_and_without_starts_have_them_all() -> None:
    docs = TokenDocuments(np.arange(30).astype(np.uint8), np.array([0, 7, 30]), None, 40)
    packed = PackedDataset(docs, 2)
    data = MixedDataset([(dataset(5), 1), (packed, 1)])
    assert data.has_starts
    assert (len(data), data.vocab_size, data.seq_len) == (5 + 14, 40, 2)
    assert all(data.window(i).start is not None for i in range(19))
    assert data.window(0).start.tolist() == [0, 0]
    for i in range(14):
        assert equal_rows(data.window(5 + i), packed.window(i))
    used = data.window(6).copy()
    rows = Rows.stack([replace(used, start=used.start + 9)] * 2)  # as a batch before has left it
    for place, i in enumerate((3, 5)):
        data.fill(i, rows, place, data.scratch())
        assert equal_rows(rows.row(place), data.window(i))
    assert rows.start[0].tolist() == [0, 0]
    assert data.nbytes == packed.nbytes + dataset(5).nbytes
    assert data.stream_bytes(100) == 2 * 3 * 19 * 2 * 4
    assert not MixedDataset([(dataset(5), 1), (dataset(4), 1)]).has_starts


@pytest.mark.parametrize(
    ("weights", "rows", "expected"),
    [([1, 1, 1], 10, [4, 3, 3]), ([0.7, 0.3], 10, [7, 3]), ([1e-9, 1], 5, [0, 5]), ([3], 4, [4])],
)
def test_shares_are_whole_and_add_up(weights: list[float], rows: int, expected: list[int]) -> None:
    assert shares(weights, rows) == expected


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^mixing: expected at least one dataset, got none$"):
        MixedDataset([])
    for weight in (0, -1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(ConfigError, match=r"^mixing: expected a positive weight of dataset"):
            MixedDataset([(dataset(3), weight)])  # type: ignore[list-item]
    with pytest.raises(ConfigError) as caught:
        MixedDataset([(dataset(3), 1), (TokenDataset(np.arange(9), 4), 1)])
    assert str(caught.value) == (
        "mixing: expected datasets of one seq_len, got 2 and 4 (dataset 1); build them with the "
        "same"
    )


class Plain(Dataset):
    """A dataset of a third party, which fills no rows."""

    seq_len, vocab_size = 2, 40

    def __init__(self, **others):
        self.others = others

    def __len__(self):
        return 3

    def window(self, i):
        ids = np.array([i, i + 1], np.int32)
        return Rows(ids, ids + 1, np.array([0, 1], np.int32), self.others)

    def order(self, seed, epoch):
        return range(3)


def test_a_dataset_that_fills_no_rows_is_mixed_by_its_windows() -> None:
    data = MixedDataset([(Plain(), 1), (dataset(3), 1)])
    for i in range(3):
        assert equal_rows(data.window(i), Plain().window(i))
    assert data.window(3).start.tolist() == [0, 0]


def test_arrays_of_other_names_cannot_be_mixed() -> None:
    with pytest.raises(ConfigError) as caught:
        MixedDataset([(dataset(5), 1), (Plain(score=np.ones(1), pair=np.ones(2)), 1)])
    assert str(caught.value) == (
        "mixing: expected dataset 1 to have x, y and start only, got score, pair, too; datasets "
        "with arrays of their own cannot be mixed"
    )
