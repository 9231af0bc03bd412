"""Philox by its published answers, and dropout as a function of its key alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.dropout import (
    dropout_backward,
    dropout_forward,
    keep_mask,
    philox4x32,
    residual_forward,
)

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    words = philox4x32(counter, key)
    assert all(word.dtype == np.uint32 for word in words)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_philox_treats_arrays_of_counters_one_by_one():
    blocks = np.arange(5)
    together = philox4x32((blocks, 7, 8, 9), (1, 2))
    for i in blocks:
        alone = philox4x32((int(i), 7, 8, 9), (1, 2))
        assert [int(word[i]) for word in together] == [int(word) for word in alone]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    element=st.integers(0, 99),
    sample=st.integers(0, 2),
    seed=st.integers(0, 2**64 - 1),
    update=st.integers(0, 2**32 - 1),
    site=st.integers(0, 2**16 - 1),
    first_row=st.integers(0, 2**31),
    p=st.floats(0, 0.99),
)
def test_an_element_is_kept_by_the_word_that_its_key_names(
    element, sample, seed, update, site, first_row, p
):
    counter = (element // 4, first_row + sample, update, site)
    word = int(philox4x32(counter, (seed % 2**32, seed // 2**32))[element % 4])
    mask = keep_mask(3, 100, p, seed, update, site, first_row)
    assert mask[sample, element] == (word >= int(p * 2**32))


def test_a_word_equal_to_the_threshold_is_kept():
    word = int(philox4x32((0, 4, 2, 3), (1, 0))[2])
    assert keep_mask(1, 3, word / 2**32, 1, 2, 3, 4)[0, 2]
    assert not keep_mask(1, 3, (word + 1) / 2**32, 1, 2, 3, 4)[0, 2]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_the_share_of_kept_elements_is_one_minus_p(p):
    mask = keep_mask(10, 10_000, p, 1, 2, 3, 4)
    deviation = (p * (1 - p) / mask.size) ** 0.5
    assert abs(mask.mean() - (1 - p)) <= 5 * deviation


def test_each_part_of_the_key_changes_the_draw():
    key = {"seed": 1, "update": 2, "site": 3, "first_row": 4}
    base = keep_mask(1, 4000, 0.5, **key)
    for name in key:
        changes = [1, 2**33] if name == "seed" else [1]
        for change in changes:
            other = keep_mask(1, 4000, 0.5, **{**key, name: key[name] + change})
            assert 0.4 < (base != other).mean() < 0.6, name


def test_micro_batches_draw_what_the_whole_batch_draws(draw):
    T, C = 3, 5
    x = draw(0, 4 * T, C)
    whole, parts = np.full_like(x, np.nan), np.full_like(x, np.nan)
    dropout_forward(x, whole, T, 0.4, 1, 2, 3, 10)
    dropout_forward(x[: 3 * T], parts[: 3 * T], T, 0.4, 1, 2, 3, 10)
    dropout_forward(x[3 * T :], parts[3 * T :], T, 0.4, 1, 2, 3, 13)
    assert np.array_equal(whole, parts)


def test_dropped_elements_are_zero_and_the_rest_is_scaled(draw):
    T, C = 7, 9
    x, y = draw(0, 2 * T, C), np.full((2 * T, C), np.nan)
    dropout_forward(x, y, T, 0.25, 1, 2, 3, 4)
    keep = keep_mask(2, T * C, 0.25, 1, 2, 3, 4).reshape(2 * T, C)
    assert 0 < keep.sum() < keep.size
    assert not y[~keep].any()
    assert largest_error(y[keep], x[keep] / 0.75) < FLOAT64_ROUNDING


def test_backward_agrees_with_central_differences(check_gradient, draw):
    T, key = 3, (0.4, 5, 1, 2, 3)
    x, dy = draw(0, 2 * T, 4), draw(1, 2 * T, 4)
    dx = np.full_like(x, np.nan)
    dropout_backward(dy, dx, T, *key)

    def objective():
        y = np.full_like(x, np.nan)
        dropout_forward(x, y, T, *key)
        return float((y * dy).sum())

    check_gradient(objective, x, dx)


def test_residual_adds_what_dropout_leaves(draw):
    T, key = 3, (0.4, 5, 1, 2, 3)
    h, y, dropped = draw(0, 2 * T, 4), draw(1, 2 * T, 4), np.empty((2 * T, 4))
    dropout_forward(y, dropped, T, *key)
    expected = h + dropped
    residual_forward(h, y, T, *key)
    assert np.array_equal(h, expected)


def test_without_dropout_the_residual_is_a_plain_sum(draw):
    h, y = draw(0, 6, 4), draw(1, 6, 4)
    expected = h + y
    residual_forward(h, y, 3, 0.0, 5, 1, 2, 3)
    assert np.array_equal(h, expected)


@pytest.mark.parametrize("function", [dropout_forward, dropout_backward])
def test_output_may_be_the_input(draw, function):
    x = draw(0, 6, 4)
    expected = np.empty_like(x)
    function(x, expected, 3, 0.4, 5, 1, 2, 3)
    function(x, x, 3, 0.4, 5, 1, 2, 3)
    assert np.array_equal(x, expected)


def test_float32_stays_float32_to_the_bit():
    x = np.linspace(1, 2, 60, dtype=np.float32).reshape(6, 10)
    y = np.full_like(x, np.nan)
    dropout_forward(x, y, 3, 0.1, 5, 1, 2, 3)
    keep = keep_mask(2, 30, 0.1, 5, 1, 2, 3).reshape(6, 10)
    assert np.array_equal(y, np.where(keep, x * np.float32(1 / 0.9), np.float32(0)))
