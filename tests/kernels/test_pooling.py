"""The compiled pooling against its twin, in every type of storage."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import FEW_ROUNDINGS, dot_product, largest_error

from tisslm.ops.reference.pooling import LAST, MAX, MEAN
from tisslm.ops.reference.storage import store

KINDS = [MEAN, LAST, MAX]
TYPES = ["float32", "uint16", "float16"]
#: Channels, and the lengths of texts (above 0) and of gaps (below): one row, a block of the sum
#: and one more; channels below, at and above vectors, four of them and a block of columns.
SHAPES = [
    (1, [1]),
    (7, [-1, 3, 1, -2, 5, -1]),
    (16, [64, 65]),
    (33, [2, 130, 7]),
    (64, [-3, 20, 19, 21]),
    (100, [1, 1, 1, -1]),
    (257, [40, -1, 3]),
    (576, [20, 17, -5, 22, 9]),
]


def texts(lengths):
    """``first_P`` and ``stop_P`` of these lengths, and the number of rows."""
    ends = np.cumsum(np.abs(lengths))
    mine = np.array(lengths) > 0
    return (ends - np.abs(lengths))[mine], ends[mine], int(ends[-1])


def forward_of(normal, unwritten, shape, dtype, kind):
    C, lengths = shape
    first, stop, N = texts(lengths)
    hidden = np.empty((N, C), dtype)
    store(hidden, normal(0, N, C))
    return {
        "hidden_NC": hidden,
        "first_P": first,
        "stop_P": stop,
        "out_PC": unwritten(len(first), C),
        "kind": kind,
        "argmax_PC": np.full((len(first), C), -7, np.int32) if kind == MAX else None,
    }


def backward_of(normal, unwritten, shape, kind):
    C, lengths = shape
    first, stop, N = texts(lengths)
    places = np.random.default_rng(2).integers(0, (stop - first)[:, None], (len(first), C))
    return {
        "d_PC": normal(1, len(first), C),
        "first_P": first,
        "stop_P": stop,
        "dh_NC": unwritten(N, C),
        "kind": kind,
        "argmax_PC": places.astype(np.int32) if kind == MAX else None,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(run_both, normal, unwritten, shape, dtype, kind):
    arguments = forward_of(normal, unwritten, shape, dtype, kind)
    out = {"out_PC", "argmax_PC"} if kind == MAX else {"out_PC"}
    both = run_both("pooling", "pool_forward", arguments, out)
    assert both.actual_code == both.expected_code == 0
    error = largest_error(both.actual["out_PC"], both.expected["out_PC"])
    longest = int((arguments["stop_P"] - arguments["first_P"]).max())
    assert error < (dot_product(longest) if kind == MEAN else 1e-300)
    if kind == MAX:
        assert np.array_equal(both.actual["argmax_PC"], both.expected["argmax_PC"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(run_both, normal, unwritten, shape, kind):
    arguments = backward_of(normal, unwritten, shape, kind)
    both = run_both("pooling", "pool_backward", arguments, {"dh_NC"})
    assert both.actual_code == both.expected_code == 0
    assert largest_error(both.actual["dh_NC"], both.expected["dh_NC"]) < FEW_ROUNDINGS


@pytest.mark.parametrize("dtype", TYPES)
def test_equal_values_infinities_and_nan_are_told_as_the_twin_does(
    run_both, normal, unwritten, dtype
):
    """Signs of zero apart: the first NaN of a column is its largest, and the first of equals."""
    arguments = forward_of(normal, unwritten, (37, [9, 1, 12]), dtype, MAX)
    rng = np.random.default_rng(0)
    values = rng.choice([0.0, 1.0, 2.0, -np.inf, np.inf, np.nan], (22, 37), p=[0.2] * 4 + [0.1] * 2)
    values[:9] = np.minimum(values[:9], 1.0)
    store(arguments["hidden_NC"], values.astype(np.float32))
    both = run_both("pooling", "pool_forward", arguments, {"out_PC", "argmax_PC"})
    assert np.array_equal(both.actual["argmax_PC"], both.expected["argmax_PC"])
    np.testing.assert_array_equal(both.actual["out_PC"], both.expected["out_PC"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_bits_that_it_has_alone(run_kernel, normal, unwritten, kind):
    arguments = forward_of(normal, unwritten, (300, [70, -2, 1, 130, 9]), "uint16", kind)
    out = {"out_PC", "argmax_PC"} if kind == MAX else {"out_PC"}
    together, _ = run_kernel("pooling", "pool_forward", arguments, out)
    for p, (first, stop) in enumerate(zip(arguments["first_P"], arguments["stop_P"], strict=True)):
        alone = {
            **arguments,
            "hidden_NC": arguments["hidden_NC"][first:stop].copy(),
            "first_P": np.array([0]),
            "stop_P": np.array([stop - first]),
            "out_PC": arguments["out_PC"][:1].copy(),
            "argmax_PC": None if kind != MAX else arguments["argmax_PC"][:1].copy(),
        }
        after, _ = run_kernel("pooling", "pool_forward", alone, out)
        for name in out:
            assert after[name].tobytes() == together[name][p : p + 1].tobytes()


def test_a_maximum_needs_no_places_forward(run_kernel, normal, unwritten):
    arguments = forward_of(normal, unwritten, (33, [5, 9]), "float32", MAX)
    told, _ = run_kernel("pooling", "pool_forward", arguments, {"out_PC", "argmax_PC"})
    arguments["argmax_PC"] = None
    after, _ = run_kernel("pooling", "pool_forward", arguments, {"out_PC"})
    assert after["out_PC"].tobytes() == told["out_PC"].tobytes()


def test_places_outside_of_a_text_are_followed_nowhere(run_both, normal, unwritten):
    arguments = backward_of(normal, unwritten, (33, [5, -1, 9]), MAX)
    arguments["argmax_PC"][0, ::3] = [-1, 5, 9, 2**31 - 1, -(2**31), 6, 7, 8, 9, 10, 11]
    arguments["argmax_PC"][1, ::3] = 9  # behind the last row of all
    both = run_both("pooling", "pool_backward", arguments, {"dh_NC"})
    assert np.array_equal(both.actual["dh_NC"], both.expected["dh_NC"].astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_without_texts_every_gradient_is_zero(run_both, unwritten, kind):
    none = {
        "d_PC": unwritten(0, 9),
        "first_P": np.zeros(0, np.int64),
        "stop_P": np.zeros(0, np.int64),
        "dh_NC": unwritten(5, 9),
        "kind": kind,
        "argmax_PC": np.zeros((0, 9), np.int32),
    }
    both = run_both("pooling", "pool_backward", none, {"dh_NC"})
    assert both.actual_code == 0
    assert not both.actual["dh_NC"].any()


@pytest.mark.parametrize(
    ("first", "stop"),
    [
        ([1, 4], [4, 4]),
        ([1, 4], [0, 5]),
        ([-1, 4], [4, 5]),
        ([1, 4], [4, 12]),
        ([1, 3], [4, 5]),
        ([4, 1], [5, 4]),
        ([1, -(2**62)], [4, 2**62]),
    ],
)
def test_what_is_no_text_has_the_twins_code(run_both, normal, unwritten, first, stop):
    places = {"first_P": np.array(first), "stop_P": np.array(stop)}
    arguments = {**forward_of(normal, unwritten, (3, [11]), "float32", MEAN), **places}
    both = run_both("pooling", "pool_forward", {**arguments, "out_PC": unwritten(2, 3)}, {"out_PC"})
    assert both.actual_code == both.expected_code > 1
    assert np.isnan(both.actual["out_PC"]).all()
    arguments = {**backward_of(normal, unwritten, (3, [11]), MEAN), **places}
    back = run_both("pooling", "pool_backward", {**arguments, "d_PC": normal(0, 2, 3)}, {"dh_NC"})
    assert back.actual_code == back.expected_code == both.actual_code
    assert np.isnan(back.actual["dh_NC"]).all()
