"""Rows: arrays by name, stacked, cut, copied, weighed, and refused where they are none."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from rows import equal_rows

from tisslm.contracts import Dataset, Rows
from tisslm.contracts.rows import check_rows
from tisslm.errors import DataError

T = 5


def window(i: int, *, start: bool = False, **others: np.ndarray) -> Rows:
    tokens = np.arange(i, i + T + 1, dtype=np.int32)
    begins = np.full(T, i % 2, np.int32) if start else None
    return Rows(tokens[:-1], tokens[1:], begins, others)


def test_rows_unpack_as_what_train_step_takes() -> None:
    x, y = window(3)
    assert (x.tolist(), y.tolist()) == ([3, 4, 5, 6, 7], [4, 5, 6, 7, 8])
    x, y, start = window(3, start=True, score=np.ones(2))  # the others have names only
    assert start.tolist() == [1] * T


@pytest.mark.parametrize("start", [False, True])
def test_windows_are_stacked_by_name_in_new_arrays(start: bool) -> None:
    windows = [window(i, start=start, pair=np.full((2, 3), i / 2)) for i in range(4)]
    rows = Rows.stack(windows)
    assert list(rows.arrays) == ["x", "y", *(["start"] if start else []), "pair"]
    assert rows.x.shape == rows.y.shape == (4, T)
    assert (rows.x.dtype, rows.others["pair"].shape) == (np.int32, (4, 2, 3))
    for i, one in enumerate(windows):
        assert equal_rows(rows.row(i), one)
        assert not np.shares_memory(rows.y, one.y)
    assert equal_rows(Rows.of(rows.arrays), rows)


def test_a_part_is_a_view_and_a_copy_is_not() -> None:
    rows = Rows.stack([window(i, start=True, score=np.array(i)) for i in range(5)])
    part, copy = rows.part(1, 3), rows.copy()
    assert len(part.x) == 2
    assert equal_rows(part.row(1), rows.row(2))
    assert equal_rows(copy, rows)
    assert len(rows.part(4, 8).x) == 1
    for name, array in rows.arrays.items():
        assert np.shares_memory(part.arrays[name], array)
        assert not np.shares_memory(copy.arrays[name], array)


def test_a_batch_has_every_array_and_the_weights() -> None:
    rows = Rows.stack([window(i, start=True, score=np.array(i)) for i in range(3)])
    weights = np.full((3, T), 0.5)
    batch = rows.part(1, 3).weighed(weights[1:])
    assert np.array_equal(batch.x_BT, rows.x[1:])
    assert np.array_equal(batch.y_BT, rows.y[1:])
    assert np.array_equal(batch.start_BT, rows.start[1:])
    assert batch.weights_BT.sum() == T
    assert batch.others["score"].tolist() == [1, 2]
    assert window(0).weighed(weights).start_BT is None


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        window(0).x = np.arange(3)  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        window(0).weights = np.arange(3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (
            [window(0), tuple(window(1))],
            "expected tisslm.contracts.Rows, got tuple; return Rows(x, y), or Rows(x, y, start) "
            "where rows hold several documents",
        ),
        (
            [window(0), window(1, score=np.ones(1))],
            "expected the same arrays of every window, got x, y of one and x, y, score of "
            "another; return them for all (start: zeros where a window is one document)",
        ),
        (
            [window(0), Rows(np.arange(4), np.arange(4))],
            "expected x of one shape in every window, got (5,) and (4,); return windows of "
            "seq_len tokens",
        ),
        (
            [window(0, y=np.ones(T)), window(1)],
            "expected others of names beside x, y, start, got 'y'; give it as Rows(y=...), or "
            "another name",
        ),
    ],
)
def test_windows_that_do_not_stack_are_refused_in_a_sentence(
    windows: list[Rows], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        Rows.stack(windows)
    assert str(caught.value) == f"dataset.window: {message}"


def test_what_is_rows_is_returned() -> None:
    rows = window(0)
    assert check_rows(rows, "a test") is rows


class Scored(Dataset):
    """Windows with a number each."""

    seq_len, vocab_size = T, 20

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def __len__(self) -> int:
        return len(self.scores)

    def window(self, i: int) -> Rows:
        return window(i, score=np.array(self.scores[i]))

    def order(self, seed: int, epoch: int) -> range:
        return range(len(self))


def test_a_dataset_is_known_again_by_its_other_arrays_too() -> None:
    assert Scored([1.0, 2.5]).fingerprint() == Scored([1.0, 2.5]).fingerprint()
    assert Scored([1.0, 2.5]).fingerprint() != Scored([1.0, 2.25]).fingerprint()


def test_batches_of_a_dataset_have_its_other_arrays() -> None:
    batch = next(Scored([1.0, 2.5, 3.0]).batches(2, 0, start=1))
    assert batch.others["score"].tolist() == [3.0]
