"""Texts in rows: packed by first fit, kept apart, refused where they cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import TextBatch
from tisslm.errors import DataError, ShapeError


def texts_of(*lengths: int) -> list[np.ndarray]:
    first = np.cumsum((1, *lengths))
    return [np.arange(a, a + n, dtype=np.int32) for a, n in zip(first, lengths, strict=False)]


def test_each_text_goes_to_the_first_row_with_room() -> None:
    batch = TextBatch.pack(texts_of(3, 4, 2, 1), time=5)
    assert batch.x_BT.tolist() == [[1, 2, 3, 8, 9], [4, 5, 6, 7, 10]]
    assert batch.start_BT.tolist() == [[0, 0, 0, 3, 3], [0, 0, 0, 0, 4]]
    assert batch.stop_BT.tolist() == [[3, 3, 3, 5, 5], [4, 4, 4, 4, 5]]
    assert (batch.first_P.tolist(), batch.stop_P.tolist()) == ([0, 5, 3, 9], [3, 9, 5, 10])
    assert {a.dtype.name for a in (batch.x_BT, batch.start_BT, batch.stop_BT)} == {"int32"}
    assert batch.first_P.dtype == batch.stop_P.dtype == np.int64


def test_padding_is_a_text_of_its_own_that_nobody_reads() -> None:
    batch = TextBatch.pack(texts_of(3, 4), time=6)
    assert batch.x_BT[0].tolist() == [1, 2, 3, 0, 0, 0]
    assert batch.start_BT[0, 3:].tolist() == [3, 3, 3]
    assert batch.stop_BT[0, 3:].tolist() == [6, 6, 6]


@pytest.mark.parametrize(("time", "width"), [(512, 192), (150, 150), (100, 100)])
def test_rows_have_few_lengths(time: int, width: int) -> None:
    assert TextBatch.pack(texts_of(90, 50), time=time).x_BT.shape[1] == width


@pytest.mark.parametrize("seed", range(5))
def test_every_text_is_where_the_places_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = texts_of(*rng.integers(1, 18, size=60).tolist())
    batch = TextBatch.pack(texts, time=17)
    flat = batch.x_BT.reshape(-1)
    for text, first, stop in zip(texts, batch.first_P, batch.stop_P, strict=True):
        np.testing.assert_array_equal(flat[first:stop], text)
        row = first // batch.x_BT.shape[1] * batch.x_BT.shape[1]
        assert set(batch.start_BT.reshape(-1)[first:stop].tolist()) == {first - row}
        assert set(batch.stop_BT.reshape(-1)[first:stop].tolist()) == {stop - row}
    tokens = sum(map(len, texts))
    assert len(batch.x_BT) <= TextBatch.most_rows(len(texts), tokens, 17)


@pytest.mark.parametrize(
    ("lengths", "kind", "message"),
    [
        ((), DataError, "texts: expected at least one, got none"),
        ((2, 0), DataError, "one token in each, got an empty one at place 1; drop it"),
        ((2, 6), ShapeError, "at most the model's 5 tokens in each, got 6 at place 1; cut it"),
    ],
)
def test_what_no_row_can_be_made_of_is_refused(
    lengths: tuple[int, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        TextBatch.pack(texts_of(*lengths), time=5)
