"""Pairs in the rows of a pass: where their texts lie, and what belongs to each answer."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import PairBatch, Rows
from tisslm.errors import ShapeError


def rows() -> Rows:
    """Return two pairs: texts of 3 and 2 tokens, and of 1 and 4."""
    x = np.array([[1, 2, 3, 4, 5, 0], [6, 7, 8, 9, 1, 0]], np.int32)
    y = np.array([[-100, 3, 9, -100, 9, -100], [9, -100, -100, 9, 2, -100]], np.int32)
    return Rows(x, y, None, {"pair": np.array([[3, 2], [1, 4]], np.int32)})


def test_texts_are_documents_in_rows_and_keep_their_targets() -> None:
    pairs = PairBatch.pack(rows(), 6)
    batch = pairs.batch
    assert batch.x_BT.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 0, 0]]
    assert batch.y_BT.tolist() == [[-100, 3, 9, -100, 9, 9], [-100, -100, 9, 2, -100, -100]]
    assert batch.start_BT is not None
    assert batch.start_BT.tolist() == [[0, 0, 0, 3, 3, 5], [0, 0, 0, 0, 4, 4]]
    assert batch.weights_BT.tolist() == [[0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 0, 0]]


def test_sums_are_of_answers_chosen_ones_first() -> None:
    pairs = PairBatch.pack(rows(), 6)
    assert pairs.sums(pairs.batch.weights_BT).tolist() == [[2, 1], [1, 2]]
    values_BT = np.arange(12.0).reshape(2, 6) * pairs.batch.weights_BT
    assert pairs.sums(values_BT).tolist() == [[1 + 2, 5], [4, 8 + 9]]


def test_what_is_spread_reaches_the_targets_of_each_answer_alone() -> None:
    pairs = PairBatch.pack(rows(), 6)
    weights_BT = pairs.spread(np.array([[0.5, -2.0], [3.0, 7.0]]))
    assert weights_BT.tolist() == [[0, 0.5, 0.5, 0, 3, -2], [0, 0, 7, 7, 0, 0]]


def test_a_text_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ShapeError, match="at most the model's 3 tokens in each, got 4 at place 3"):
        PairBatch.pack(rows(), 3)
