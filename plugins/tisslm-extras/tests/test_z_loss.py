"""z_loss: numbers by hand, the gradient by central differences, rows, weights and refusals."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tisslm_extras
from numpy.typing import NDArray
from tisslm_extras.wsd import WSD
from tisslm_extras.z_loss import ZLoss

from tisslm.errors import ConfigError, DataError, ShapeError

Array = NDArray[Any]

#: A few roundings of float64.
ROUNDING = 1e-13


def tile_arguments(rows: int = 5, classes: int = 7, dtype: str = "float64") -> tuple[Array, ...]:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(rows, classes), scale=2.0).astype(dtype)
    targets = rng.integers(classes, size=rows).astype(np.int32)
    weights = rng.uniform(0.5, 1.5, size=rows).astype(dtype)
    return logits, targets, weights


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_by_hand(dtype: str) -> None:
    # exp = 1, 2, 1: Z = 4
    logits = np.array([[0.0, math.log(2.0), 0.0]], dtype=dtype)
    targets = np.array([1], dtype=np.int32)
    weights = np.array([0.5], dtype=dtype)
    losses = ZLoss(z_weight=0.1).tile(logits, targets, weights)
    lse = math.log(4.0)
    # a float32 logarithm and exponential of a few units in the last place
    tolerance = ROUNDING if dtype == "float64" else 1e-6
    np.testing.assert_allclose(losses, [0.5 * (math.log(2.0) + 0.1 * lse**2)], rtol=tolerance)
    pull = 1.0 + 0.2 * lse
    expected = [[0.5 * pull / 4, 0.5 * (pull / 2 - 1.0), 0.5 * pull / 4]]
    np.testing.assert_allclose(logits, expected, rtol=tolerance)
    assert losses.dtype == logits.dtype == np.dtype(dtype)


@pytest.mark.parametrize("z_weight", [0.0, 1e-4, 0.3])
def test_gradient_agrees_with_central_differences(z_weight: float) -> None:
    logits, targets, weights = tile_arguments()
    targets[2], weights[2] = -100, 0.0
    loss, step = ZLoss(z_weight=z_weight), 1e-3

    def objective(moved: Array) -> float:
        return float(loss.tile(moved, targets, weights, gradient=False).sum())

    expected = np.empty_like(logits)
    for index in np.ndindex(logits.shape):
        values = []
        for n in (-2, -1, 1, 2):
            moved = logits.copy()
            moved[index] += n * step
            values.append(objective(moved))
        expected[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    gradient = logits.copy()
    loss.tile(gradient, targets, weights)
    # the formula is off by step^4 / 30 of a fifth derivative, far below 1e-9
    assert np.linalg.norm(gradient - expected) < 1e-9 * np.linalg.norm(expected)
    assert not gradient[2].any()


def test_without_a_gradient_the_logits_are_left() -> None:
    logits, targets, weights = tile_arguments()
    before = logits.copy()
    losses = ZLoss().tile(logits, targets, weights, gradient=False)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(ZLoss().tile(logits, targets, weights), losses)


def test_rows_do_not_see_each_other() -> None:
    logits, targets, weights = tile_arguments(dtype="float32")
    whole = logits.copy()
    losses = ZLoss().tile(whole, targets, weights)
    for row in range(len(targets)):
        part, one = slice(row, row + 1), logits[row : row + 1].copy()
        np.testing.assert_array_equal(ZLoss().tile(one, targets[part], weights[part]), losses[part])
        np.testing.assert_array_equal(one, whole[part])


def test_losses_and_gradients_are_linear_in_the_weights() -> None:
    logits, targets, weights = tile_arguments()
    once, twice = logits.copy(), logits.copy()
    losses = ZLoss(z_weight=0.1).tile(once, targets, weights)
    np.testing.assert_array_equal(ZLoss(z_weight=0.1).tile(twice, targets, 2 * weights), 2 * losses)
    np.testing.assert_array_equal(twice, 2 * once)


def test_a_row_without_target_costs_nothing() -> None:
    logits, targets, weights = tile_arguments()
    targets[:] = -100
    assert not ZLoss().tile(logits, targets, weights).any()
    assert not logits.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gradient", [True, False])
def test_a_row_without_target_costs_nothing_whatever_its_logits(dtype: str, gradient: bool) -> None:
    logits, targets, weights = tile_arguments(dtype=dtype)
    clean = logits.copy()
    targets[[0, 2, 4]] = -100
    expected = ZLoss().tile(clean, targets, weights)
    logits[0, 3], logits[2], logits[4, 0] = np.nan, np.inf, -np.inf
    losses = ZLoss().tile(logits, targets, weights, gradient=gradient)
    np.testing.assert_array_equal(losses, expected)
    assert not losses[[0, 2, 4]].any()
    if gradient:
        np.testing.assert_array_equal(logits, clean)
        assert not logits[[0, 2, 4]].any()


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, 0.0]], dtype=np.float32)
    losses = ZLoss(z_weight=1e-4).tile(
        logits, np.zeros(1, dtype=np.int32), np.ones(1, dtype=np.float32)
    )
    np.testing.assert_allclose(losses, [1e-4 * 1e8], rtol=1e-6)
    np.testing.assert_allclose(logits, [[2e-4 * 1e4, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("offset", [-9.0, 9.0])
@pytest.mark.parametrize("z_weight", [0.0, 0.5])
def test_only_the_penalty_moves_all_logits_together(offset: float, z_weight: float) -> None:
    logits, targets, weights = tile_arguments()
    logits += offset
    log_z = np.log(np.exp(logits).sum(axis=1))
    ZLoss(z_weight=z_weight).tile(logits, targets, weights)
    # a softmax sums to 1 as its target does, so what is left is the derivative of the penalty,
    # with the sign of log Z: a step against it brings Z nearer to 1
    expected = weights * 2.0 * z_weight * log_z
    np.testing.assert_allclose(logits.sum(axis=1), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e4, 1e5])
@pytest.mark.parametrize("z_weight", [0.0, 1e-4])
def test_large_logits_keep_their_digits(offset: float, z_weight: float) -> None:
    """Multiples of 2^-7 below 2^17 are exact in float32; log Z, rounded, would be off by 4e-3."""
    logits, targets, weights = tile_arguments(rows=20, classes=300)
    exact = np.round(logits * 128) / 128 + offset
    rounded, rounded_weights = exact.astype(np.float32), weights.astype(np.float32)
    loss = ZLoss(z_weight=z_weight)
    found = loss.tile(rounded, targets, rounded_weights)
    expected = loss.tile(exact, targets, rounded_weights.astype(np.float64))
    # relative to the largest: the exponential, two sums and a handful of products
    for got, right in ((found, expected), (rounded, exact)):
        assert np.abs(got - right).max() < 4e-7 * np.abs(right).max()


def test_forward_and_backward_of_the_contract() -> None:
    logits, targets, _ = tile_arguments(rows=6)
    logits_BTV, targets_BT = logits.reshape(2, 3, -1), targets.reshape(2, 3)
    targets_BT[0, 1] = -100
    loss = ZLoss(z_weight=0.2)
    real = targets_BT != -100
    lse = np.log(np.exp(logits_BTV).sum(axis=-1))
    chosen = np.take_along_axis(logits_BTV, np.where(real, targets_BT, 0)[..., None], -1)[..., 0]
    expected = (lse - chosen + 0.2 * lse**2)[real].mean()
    assert loss.forward(logits_BTV, targets_BT) == pytest.approx(expected, rel=ROUNDING)
    assert loss.backward().shape == logits_BTV.shape


@pytest.mark.parametrize("target", [7, -1, 2**31 - 1])
def test_a_target_outside_the_vocabulary_is_refused(target: int) -> None:
    logits, targets, weights = tile_arguments()
    targets[3] = target
    with pytest.raises(DataError) as caught:
        ZLoss().tile(logits, targets, weights)
    assert str(caught.value) == (
        f"targets: row 3 of the tile is {target}, neither -100 nor an id of the vocabulary of 7. "
        "Use the tokenizer that the model was made for"
    )


@pytest.mark.parametrize("wrong", ["shape", "targets", "weights", "layout"])
def test_arrays_that_kernels_cannot_read_are_refused(wrong: str) -> None:
    logits, targets, weights = tile_arguments()
    if wrong == "shape":
        logits = logits[None]
    elif wrong == "targets":
        targets = targets.astype(np.int64)
    elif wrong == "weights":
        weights = weights[:-1]
    else:
        logits = np.asfortranarray(logits)
    with pytest.raises(ShapeError, match="loss z_loss: expected C-contiguous logits"):
        ZLoss().tile(logits, targets, weights)


@pytest.mark.parametrize("value", [-1e-4, float("inf"), float("nan"), "small", True])
def test_options_out_of_range_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ZLoss(z_weight=value)
    assert str(caught.value) == (
        f"loss z_loss: z_weight: expected a finite number >= 0, got {value!r}"
    )


def test_the_entry_point_names_the_hook_module_and_the_hooks_the_classes() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["entry-points"] == {"tisslm": {"extras": "tisslm_extras"}}
    entries = [*tisslm_extras.tisslm_schedulers(), *tisslm_extras.tisslm_losses()]
    named = {entry.name: entry.target for entry in entries}
    assert named == {
        "wsd": f"{WSD.__module__}:{WSD.__qualname__}",
        "z_loss": f"{ZLoss.__module__}:{ZLoss.__qualname__}",
    }
