"""Batches in arrays that are written again: the same batches, and how long each is good."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rows import equal_rows

from tisslm.contracts import Dataset, Rows
from tisslm.datasets import TextDataset, TokenDataset
from tisslm.tokenizers import ByteTokenizer


def dataset(windows: int = 11, kind: type[TokenDataset] = TokenDataset) -> TokenDataset:
    return kind((np.arange(windows * 4 + 1) % 251).astype(np.uint8), 4, vocab_size=251)


@given(
    windows=st.integers(1, 700),
    batch_size=st.integers(1, 300),
    start=st.integers(0, 9),
    seed=st.integers(0, 3),
)
def test_a_stream_has_the_windows_in_the_order_of_the_epoch(
    windows: int, batch_size: int, start: int, seed: int
) -> None:
    data = dataset(windows)
    plain = islice(Dataset.batches(data, batch_size, seed, start), 4)
    for (x, y), (own_x, own_y) in zip(plain, data.stream(batch_size, seed, start), strict=False):
        assert np.array_equal(x, own_x)
        assert np.array_equal(y, own_y)
        assert own_x.dtype == own_y.dtype == np.int32
        assert own_x.flags.c_contiguous
        assert own_y.flags.c_contiguous


def test_a_batch_is_good_until_the_next_but_one() -> None:
    stream, expected = dataset().stream(4, 1), dataset().batches(4, 1)
    first, second = next(stream), next(stream)
    assert equal_rows(first, next(expected))
    assert equal_rows(second, next(expected))
    next(stream)  # the last of the epoch, with three windows
    assert not np.shares_memory(first.x, second.x)
    assert np.shares_memory(next(stream).x, second.x)
    assert np.shares_memory(next(stream).x, first.x)


def test_batches_are_new_arrays() -> None:
    batches = list(islice(dataset().batches(4, 1), 9))
    for i, (x, y) in enumerate(batches):
        assert not any(np.shares_memory(x, other) for other, _ in batches[i + 1 :])
        assert not np.shares_memory(x, y)


class Backwards(TokenDataset):
    """A dataset of a third party, with batches of its own."""

    def batches(self, batch_size, seed, start=0):
        for x, y in super().batches(batch_size, seed, start):
            yield Rows(x[::-1], y[::-1])


class BackwardsText(TextDataset):
    def batches(self, batch_size, seed, start=0):
        for x, y in super().batches(batch_size, seed, start):
            yield Rows(x[::-1], y[::-1])


def test_batches_of_a_subclass_are_what_is_trained_on(tmp_path: Path) -> None:
    data, plain = dataset(kind=Backwards), dataset()
    assert np.array_equal(next(data.stream(4, 1)).x, next(plain.batches(4, 1)).x[::-1])
    path = tmp_path / "text.txt"
    path.write_text("abcdefghijklmnopqrstuvwxyz")
    text, back = (kind(path, ByteTokenizer(), 3) for kind in (TextDataset, BackwardsText))
    assert np.array_equal(next(back.stream(4, 1)).x, next(text.stream(4, 1)).x[::-1])


def test_the_memory_of_a_stream_is_that_of_its_arrays() -> None:
    data = dataset()
    stream = data.stream(4, 1)
    pairs = [next(stream), next(stream)]
    assert data.stream_bytes(4) == sum(array.nbytes for pair in pairs for array in pair)
    assert data.stream_bytes(100) == 2 * 2 * 11 * 4 * 4
    assert data.nbytes == 45
