"""The compiled dropout against its twin: the same draw to the bit, for any key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FEW_ROUNDINGS, largest_error

from tisslm.ops.reference.dropout import keep_mask, philox4x32

# samples, time, channels: T*C a multiple of the four words of a block, and not
SHAPES = [
    (1, 1, 1),
    (2, 1, 3),
    (3, 5, 1),
    (2, 7, 15),
    (3, 13, 17),
    (2, 64, 33),
    (1, 129, 100),
    (2, 3, 601),
]
OUT = {"dropout_forward": "y_NC", "dropout_backward": "dx_NC"}
IN = {"dropout_forward": "x_NC", "dropout_backward": "dy_NC"}
KEY = {"seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 11}


def draw_key():
    return st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**63 - 1),
            "update": st.integers(0, 2**31 - 1),
            "site": st.integers(0, 2**15 - 1),
            "first_row": st.integers(0, 2**31 - 1000),
        }
    )


@pytest.mark.parametrize("function", list(OUT))
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("B", "T", "C"), SHAPES)
def test_dropout(run_both, normal, unwritten, function, p, B, T, C):
    arguments = {
        IN[function]: normal(0, B * T, C),
        OUT[function]: unwritten(B * T, C),
        "T": T,
        "p": p,
        **KEY,
    }
    both = run_both("dropout", function, arguments, {OUT[function]})
    actual, expected = both.actual[OUT[function]], both.expected[OUT[function]]
    assert np.array_equal(actual == 0, expected == 0)
    assert largest_error(actual, expected) < FEW_ROUNDINGS


@settings(max_examples=40, deadline=None, derandomize=True)
@given(key=draw_key(), p=st.floats(0, 0.99))
def test_the_draw_is_the_twins_for_any_key(run_kernel, unwritten, key, p):
    arguments = {"x_NC": np.ones((6, 7), np.float32), "y_NC": unwritten(6, 7), "T": 3, "p": p}
    after, _ = run_kernel("dropout", "dropout_forward", {**arguments, **key}, {"y_NC"})
    keep = keep_mask(2, 21, p, **key).reshape(6, 7)
    assert np.array_equal(after["y_NC"] != 0, keep)


def test_a_word_equal_to_the_threshold_is_kept(run_kernel, unwritten):
    key = (KEY["seed"] % 2**32, KEY["seed"] // 2**32)
    word = int(philox4x32((0, KEY["first_row"], KEY["update"], KEY["site"]), key)[2])
    for p, kept in ((word / 2**32, True), ((word + 1) / 2**32, False)):
        arguments = {"x_NC": np.ones((1, 3), np.float32), "y_NC": unwritten(1, 3), "T": 1, "p": p}
        after, _ = run_kernel("dropout", "dropout_forward", {**arguments, **KEY}, {"y_NC"})
        assert (after["y_NC"][0, 2] != 0) == kept


def test_a_seed_of_64_bits_is_used_whole(run_kernel, unwritten):
    draws = set()
    for seed in (1, 1 + 2**32, 1 + 2**63):
        arguments = {"x_NC": np.ones((6, 7), np.float32), "y_NC": unwritten(6, 7), "T": 3}
        key = {**KEY, "seed": seed}
        after, _ = run_kernel(
            "dropout", "dropout_forward", {**arguments, "p": 0.5, **key}, {"y_NC"}
        )
        assert np.array_equal(after["y_NC"] != 0, keep_mask(2, 21, 0.5, **key).reshape(6, 7))
        draws.add(after["y_NC"].tobytes())
    assert len(draws) == 3


@pytest.mark.parametrize("function", list(OUT))
def test_output_may_be_the_input(run_both, normal, function):
    x = normal(0, 26, 17)
    arguments = {IN[function]: x, OUT[function]: x, "T": 13, "p": 0.3, **KEY}
    both = run_both("dropout", function, arguments, {OUT[function]})
    assert largest_error(both.actual[OUT[function]], both.expected[OUT[function]]) < FEW_ROUNDINGS


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize(("B", "T", "C"), SHAPES)
def test_residual(run_both, normal, p, B, T, C):
    arguments = {"h_NC": normal(0, B * T, C), "y_NC": normal(1, B * T, C), "T": T, "p": p, **KEY}
    both = run_both("dropout", "residual_forward", arguments, {"h_NC"})
    assert largest_error(both.actual["h_NC"], both.expected["h_NC"], 1.0) < FEW_ROUNDINGS
    dropped = both.expected["h_NC"] == arguments["h_NC"]
    assert np.array_equal(both.actual["h_NC"] == arguments["h_NC"], dropped)


@pytest.mark.parametrize(("B", "T", "C"), SHAPES)
def test_without_dropout_the_residual_is_one_rounded_sum(run_kernel, normal, B, T, C):
    h, y = normal(0, B * T, C), normal(1, B * T, C)
    arguments = {"h_NC": h, "y_NC": y, "T": T, "p": 0.0, **KEY}
    after, _ = run_kernel("dropout", "residual_forward", arguments, {"h_NC"})
    assert np.array_equal(after["h_NC"], h + y)


def test_nan_passes_where_it_is_kept(run_kernel, unwritten):
    arguments = {"x_NC": unwritten(6, 7), "y_NC": np.zeros((6, 7), np.float32), "T": 3, "p": 0.5}
    after, _ = run_kernel("dropout", "dropout_forward", {**arguments, **KEY}, {"y_NC"})
    keep = keep_mask(2, 21, 0.5, **KEY).reshape(6, 7)
    assert np.isnan(after["y_NC"][keep]).all()
