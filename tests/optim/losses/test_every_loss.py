"""What holds for every built-in loss: its tile, bad arrays, bad targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import EPS32, FLOAT64_ROUNDING, largest_error

from tisslm.errors import DataError, ShapeError
from tisslm.optim.losses import CrossEntropy, Focal, LabelSmoothing

LOSSES = {
    "cross_entropy": CrossEntropy(),
    "label_smoothing": LabelSmoothing(),
    "focal": Focal(),
}
every_loss = pytest.mark.parametrize(("name", "loss"), LOSSES.items(), ids=LOSSES.keys())
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])

FEW = settings(max_examples=15, deadline=None, derandomize=True)


def example(N=9, V=37, dtype="float64", seed=0):
    """Logits, targets with a -100 in row 1, and weights that are not all the same."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(N, V))
    targets = rng.integers(0, V, N).astype(np.int32)
    targets[1:2] = -100
    return logits.astype(dtype), targets, rng.uniform(0.1, 2, N).astype(dtype)


@both_types
@every_loss
def test_rows_are_independent_to_the_bit(name, loss, dtype):
    logits, targets, weights = example(dtype=dtype)
    whole = logits.copy()
    losses = loss.tile(whole, targets, weights).copy()
    assert losses.dtype == dtype
    for rows in (slice(0, 1), slice(3, 8), slice(8, None)):
        part = logits[rows].copy()
        assert np.array_equal(loss.tile(part, targets[rows], weights[rows]), losses[rows])
        assert np.array_equal(part, whole[rows])


@every_loss
@FEW
@given(seed=st.integers(0, 2**32), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_losses_and_gradient_are_linear_in_the_weights(name, loss, seed, a, b):
    logits, targets, first = example(seed=seed)
    second = first[::-1].copy()
    results = []
    for weights in (first, second, a * first + b * second):
        gradient = logits.copy()
        results.append((loss.tile(gradient, targets, weights).copy(), gradient))
    for one, two, mixed in zip(*results, strict=True):
        assert largest_error(mixed, a * one + b * two, 1.0) < FLOAT64_ROUNDING


@both_types
@every_loss
def test_a_scaled_weight_scales_loss_and_gradient_exactly(name, loss, dtype):
    """A scale of 2^k rides on the weights through half precision and is divided out again."""
    logits, targets, weights = example(dtype=dtype)
    plain, scaled = logits.copy(), logits.copy()
    losses = loss.tile(plain, targets, weights).copy()
    assert np.array_equal(loss.tile(scaled, targets, 1024 * weights), 1024 * losses)
    # a float32 kernel may round once less where it multiplies and adds at once
    assert largest_error(scaled / 1024, plain) < (EPS32 if dtype == "float32" else 1e-15)


@both_types
@every_loss
def test_without_gradient_the_logits_stay_and_the_losses_are_the_same(name, loss, dtype):
    logits, targets, weights = example(dtype=dtype)
    expected = loss.tile(logits.copy(), targets, weights).copy()
    kept = logits.copy()
    assert np.array_equal(loss.tile(kept, targets, weights, gradient=False), expected)
    assert np.array_equal(kept, logits)


@both_types
@every_loss
def test_no_target_is_a_constant(name, loss, dtype):
    logits, targets, weights = example(dtype=dtype)
    gradient = logits.copy()
    losses = loss.tile(gradient, targets, weights)
    assert losses[1] == 0
    assert not gradient[1].any()
    assert losses[0] > 0
    assert gradient[0].any()


@both_types
@every_loss
def test_no_target_at_all_costs_nothing(name, loss, dtype):
    logits, targets, _ = example(dtype=dtype)
    assert loss.forward(logits, np.full_like(targets, -100)) == 0.0
    assert not loss.backward().any()


@both_types
@every_loss
def test_a_row_of_the_gradient_sums_to_zero(name, loss, dtype):
    """A constant added to all logits of a row changes nothing."""
    logits, targets, weights = example(dtype=dtype)
    loss.tile(logits, targets, weights)
    assert np.abs(logits.sum(axis=1)).max() < 16 * np.finfo(dtype).eps


@pytest.mark.parametrize("offset", [1e3, -1e4, 1e5])
@both_types
@every_loss
def test_what_is_added_to_all_logits_changes_no_digit(name, loss, dtype, offset):
    """Multiples of 2^-7 below 2^17 are exact in float32, and so is the distance of any two."""
    logits, targets, weights = example(dtype=dtype)
    logits = np.round(logits * 128) / 128
    plain, moved = logits.copy(), logits + logits.dtype.type(offset)
    losses = loss.tile(plain, targets, weights).copy()
    assert np.array_equal(loss.tile(moved, targets, weights), losses)
    assert np.array_equal(moved, plain)


@both_types
@every_loss
@pytest.mark.parametrize("bad", [-1, 37, 2**31 - 1])
def test_a_target_outside_the_vocabulary_is_named(name, loss, dtype, bad):
    logits, targets, weights = example(dtype=dtype)
    targets[4] = bad
    with pytest.raises(DataError, match=r"^targets: row 4 of the tile is neither -100 nor an id"):
        loss.tile(logits, targets, weights)


BAD_ARRAYS = [
    (
        {"targets": np.zeros(8, np.int32)},
        "expected targets of shape (9,) int32 for logits of (9, 37) float64, got (8,) int32",
    ),
    (
        {"targets": np.zeros(9, np.int64)},
        "expected targets of shape (9,) int32 for logits of (9, 37) float64, got (9,) int64",
    ),
    (
        {"weights": np.zeros(9, np.float32)},
        "expected weights of shape (9,) float64 for logits of (9, 37) float64, got (9,) float32",
    ),
    (
        {"weights": np.zeros((9, 1))},
        "expected weights of shape (9,) float64 for logits of (9, 37) float64, got (9, 1) float64",
    ),
    (
        {"logits": np.zeros((3, 3, 37))},
        "expected logits of shape (N, V), float32 or float64, got (3, 3, 37) float64",
    ),
    (
        {"logits": np.zeros((9, 37), np.float16)},
        "expected logits of shape (N, V), float32 or float64, got (9, 37) float16",
    ),
    (
        {"logits": np.zeros((37, 9)).T},
        "expected C-contiguous logits, got strides (8, 72); "
        "np.ascontiguousarray makes a copy that is",
    ),
]


@every_loss
@pytest.mark.parametrize(("changes", "message"), BAD_ARRAYS)
def test_a_bad_array_is_described(name, loss, changes, message):
    arrays = dict(zip(("logits", "targets", "weights"), example(), strict=True)) | changes
    with pytest.raises(ShapeError) as caught:
        loss.tile(*arrays.values())
    assert str(caught.value) == f"loss {name}: {message}"
