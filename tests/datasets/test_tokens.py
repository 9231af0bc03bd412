"""Windows over tokens: what is in them, in which order they come, and what is refused."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.contracts import Dataset
from tisslm.datasets import TokenDataset
from tisslm.datasets import tokens as tokens_module
from tisslm.errors import ConfigError, DataError, ShapeError

DTYPES = ["uint8", "uint16", "uint32", "int32", "int64"]


@settings(deadline=None)  # the machine may be busy
@given(
    n=st.integers(2, 200),
    seq_len=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    step=st.sampled_from([1, 2]),
)
def test_windows_tile_the_tokens_and_targets_are_the_next_ones(
    n: int, seq_len: int, dtype: str, step: int
) -> None:
    tokens = np.arange(n * step).astype(dtype)[::step]  # also strided views
    if n <= seq_len:
        return
    dataset = TokenDataset(tokens, seq_len)
    assert len(dataset) == (n - 1) // seq_len
    for i in range(len(dataset)):
        x, y = dataset.window(i)
        assert x.shape == y.shape == (seq_len,)
        assert x.dtype == y.dtype == np.int32
        assert np.array_equal(x, tokens[i * seq_len : (i + 1) * seq_len])
        assert np.array_equal(y, tokens[i * seq_len + 1 : (i + 1) * seq_len + 1])


@settings(deadline=None)  # the machine may be busy
@given(
    n=st.integers(5, 120),
    seq_len=st.integers(1, 4),
    batch_size=st.integers(1, 150),
    start=st.integers(0, 300),
)
def test_batches_are_those_of_the_contract(
    n: int, seq_len: int, batch_size: int, start: int
) -> None:
    dataset = TokenDataset(np.arange(n, dtype=np.uint16), seq_len)
    ours = islice(dataset.batches(batch_size, 7, start), 12)
    contract = islice(Dataset.batches(dataset, batch_size, 7, start), 12)
    for (x, y), (x_contract, y_contract) in zip(ours, contract, strict=True):
        assert x.dtype == y.dtype == np.int32
        assert x.flags.c_contiguous
        assert y.flags.c_contiguous
        assert np.array_equal(x, x_contract)
        assert np.array_equal(y, y_contract)


def test_long_epochs_keep_the_order_of_the_contract() -> None:
    # More batches than are computed ahead, started in the middle, over the end of an epoch.
    dataset = TokenDataset(np.arange(200), 1)
    ours = islice(dataset.batches(3, 0, 20), 130)
    contract = islice(Dataset.batches(dataset, 3, 0, 20), 130)
    for (x, _), (x_contract, _) in zip(ours, contract, strict=True):
        assert np.array_equal(x, x_contract)


def test_an_epoch_delivers_every_window_once_and_the_next_one_another_order() -> None:
    dataset = TokenDataset(np.arange(104), 4, batch_size=10, seed=1)
    first, second = list(dataset), list(dataset)
    assert [len(x) for x, _ in first] == [10, 10, 5]
    for epoch in (first, second):
        starts = np.concatenate([x[:, 0] for x, _ in epoch])
        assert sorted(starts) == list(range(0, 100, 4))
    assert not np.array_equal(first[0].x, second[0].x)
    again = list(TokenDataset(np.arange(104), 4, batch_size=10, seed=1))
    assert all(np.array_equal(a.x, b.x) for a, b in zip(first, again, strict=True))


def test_batches_can_be_changed_without_changing_the_tokens() -> None:
    tokens = np.arange(9, dtype=np.int32)
    dataset = TokenDataset(tokens, 4)
    for x, y in (dataset.window(0), next(dataset.batches(2, 0))):
        x[...] = -1
        y[...] = -2
    assert np.array_equal(tokens, np.arange(9))


def test_a_mapped_file_is_kept_as_it_is(tmp_path: Path) -> None:
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", dtype=np.uint16, mode="r")
    dataset = TokenDataset(mapped, 10, vocab_size=1000)
    assert np.shares_memory(dataset.tokens, mapped)
    assert dataset.tokens.dtype == np.uint16
    assert np.array_equal(dataset.window(98).y, np.arange(981, 991))


def test_the_vocabulary_is_found_from_the_ids_when_not_given() -> None:
    assert TokenDataset([3, 7, 0], 1).vocab_size == 8
    assert TokenDataset([3, 7, 0], 1, vocab_size=50).vocab_size == 50


@pytest.mark.parametrize("seq_len", [0, -3, 2.0, "8"])
def test_a_seq_len_that_is_no_positive_integer_is_refused(seq_len: int) -> None:
    with pytest.raises(ConfigError) as caught:
        TokenDataset([1, 2, 3], seq_len)
    assert str(caught.value) == f"seq_len: expected an integer >= 1, got {seq_len!r}"


def test_tokens_that_are_not_flat_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        TokenDataset(np.zeros((3, 4), dtype=np.int32), 2)
    assert str(caught.value) == (
        "dataset: expected a one-dimensional array of token ids, got shape (3, 4); "
        "flatten it with tokens.reshape(-1)"
    )


def test_tokens_that_are_not_integers_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        TokenDataset(np.zeros(9), 2)
    assert str(caught.value) == (
        "dataset: expected integer token ids, got float64; "
        "convert them, for example with tokens.astype('uint16')"
    )


@pytest.mark.parametrize("n", [0, 1, 8])
def test_too_few_tokens_are_refused(n: int) -> None:
    with pytest.raises(DataError) as caught:
        TokenDataset(list(range(n)), 8)
    assert str(caught.value) == (
        "dataset: expected at least 9 tokens for one window of seq_len 8 and its last target, "
        f"got {n}; give a longer text or a smaller seq_len"
    )


@pytest.mark.parametrize(
    ("dtype", "place", "bad", "vocab_size"),
    [("int32", 5, -1, 65), ("uint8", 0, 65, 65), ("int64", 99, 2**40, None), ("uint64", 3, 70, 70)],
)
def test_an_id_out_of_range_is_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch, dtype: str, place: int, bad: int, vocab_size: int | None
) -> None:
    monkeypatch.setattr(tokens_module, "SCAN_TOKENS", 7)  # several pieces
    tokens = np.zeros(100, dtype=dtype)
    tokens[place] = bad
    tokens[-1] = bad
    with pytest.raises(DataError) as caught:
        TokenDataset(tokens, 4, vocab_size=vocab_size)
    assert str(caught.value) == (
        f"dataset: token id {bad} at position {place} is not in range({vocab_size or 2**31}), the "
        "vocabulary; use the tokenizer that made the tokens, or set vocab_size to at least the "
        "largest id plus one"
    )


@pytest.mark.parametrize("i", [-1, 2])
def test_a_window_that_does_not_exist_is_refused(i: int) -> None:
    with pytest.raises(DataError) as caught:
        TokenDataset(np.arange(10), 4).window(i)
    assert str(caught.value) == f"dataset: expected a window number in range(2), got {i}"


def test_batches_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        next(TokenDataset(np.arange(10), 4).batches(0, seed=0))
    assert str(caught.value) == "batch_size: expected an integer >= 1, got 0"


def test_iteration_needs_batch_size_and_seed() -> None:
    with pytest.raises(ConfigError, match="dataset: batch_size and seed are not set"):
        next(iter(TokenDataset(np.arange(10), 4)))
