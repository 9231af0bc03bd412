"""Bytes: every text comes back, every id has a meaning."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import DataError
from tisslm.tokenizers import ByteTokenizer


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert ids == list(text.encode()) == tokenizer.encode_array(text).tolist()
    assert tokenizer.decode(ids) == tokenizer.decode(tokenizer.encode_array(text)) == text


@given(st.lists(st.integers(0, 255)))
def test_every_sequence_of_ids_decodes(ids: list[int]) -> None:
    assert ByteTokenizer().decode(ids) == bytes(ids).decode("utf-8", errors="replace")


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert ByteTokenizer().decode([97, 0xFF, 98]) == "a\ufffdb"


def test_the_state_goes_through_json() -> None:
    state = json.loads(json.dumps(ByteTokenizer().state()))
    assert ByteTokenizer.from_state(state).decode([104, 105]) == "hi"


def test_the_training_text_does_not_matter() -> None:
    assert ByteTokenizer.from_text("abc").vocab_size == ByteTokenizer().vocab_size == 256


@pytest.mark.parametrize(("ids", "place"), [([1, 256], 1), ([-1], 0), (np.array([0, 0, 999]), 2)])
def test_an_id_out_of_range_is_refused(ids: list[int], place: int) -> None:
    with pytest.raises(DataError) as caught:
        ByteTokenizer().decode(ids)
    assert str(caught.value) == (
        f"byte tokenizer: token id {ids[place]} at position {place} is not in range(256), the "
        "vocabulary; use the tokenizer that the model was trained with"
    )


@pytest.mark.parametrize(
    ("ids", "got"),
    [
        (np.zeros((2, 3), dtype=int), "int64 of shape (2, 3)"),
        ([1.0, 2.0], "float64 of shape (2,)"),
        ([2**70], "object of shape (1,)"),
    ],
)
def test_ids_that_are_no_flat_integers_are_refused(ids: list[int], got: str) -> None:
    with pytest.raises(DataError) as caught:
        ByteTokenizer().decode(ids)
    assert str(caught.value) == (
        f"byte tokenizer: expected a flat sequence of integer ids, got {got}; "
        "decode one sequence at a time"
    )


def test_a_lone_surrogate_is_refused() -> None:
    for encode in (ByteTokenizer().encode, ByteTokenizer().encode_array):
        with pytest.raises(DataError) as caught:
            encode("ab\udcffc")
        assert str(caught.value) == (
            "byte tokenizer: expected Unicode text, got the lone surrogate U+DCFF at position 2; "
            "read the file as UTF-8 without errors='surrogateescape'"
        )
