"""The compiled norms against their twins."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import FEW_ROUNDINGS, LAYER_NORM, LAYER_NORM_OFFSET, dot_product, largest_error

ROWS = [1, 11, 13, 63, 64, 65, 129]
COLUMNS = [1, 2, 15, 16, 17, 33, 65, 100, 384]
EPS = 1e-5
WRITTEN = {"x_NC", "y_NC", "mean_N", "rstd_N"}


def statistics(x):
    mean = x.mean(axis=1, dtype=np.float64)
    variance = x.var(axis=1, dtype=np.float64)
    return mean.astype(np.float32), ((variance + EPS) ** -0.5).astype(np.float32)


def forward_arguments(normal, unwritten, x, bias):
    N, C = x.shape
    return {
        "h_NC": x,
        "gamma_C": normal(1, C),
        "beta_C": normal(2, C) if bias else None,
        "x_NC": unwritten(N, C),
        "y_NC": unwritten(N, C),
        "mean_N": unwritten(N),
        "rstd_N": unwritten(N),
        "eps": EPS,
    }


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("C", COLUMNS)
@pytest.mark.parametrize("N", ROWS)
def test_forward(run_both, normal, unwritten, N, C, bias):
    arguments = forward_arguments(normal, unwritten, 1 + normal(0, N, C, size=2.0), bias)
    both = run_both("norm", "layer_norm_forward", arguments, WRITTEN)
    for name in ("y_NC", "mean_N"):
        scale = float(both.expected["rstd_N"].max()) if name == "y_NC" else 1.0
        error = largest_error(both.actual[name], both.expected[name], scale)
        assert error < LAYER_NORM
    relative = both.actual["rstd_N"] / both.expected["rstd_N"] - 1
    if C > 1:  # the variance of two nearly equal numbers has fewer digits
        assert np.abs(relative).max() < (LAYER_NORM if C > 2 else 1e-4)


def test_rows_with_a_large_mean_keep_their_variance(run_both, normal, unwritten):
    arguments = forward_arguments(normal, unwritten, 1000 + normal(0, 5, 100), bias=True)
    both = run_both("norm", "layer_norm_forward", arguments, WRITTEN)
    assert largest_error(both.actual["y_NC"], both.expected["y_NC"]) < LAYER_NORM_OFFSET
    assert largest_error(both.actual["rstd_N"], both.expected["rstd_N"]) < LAYER_NORM_OFFSET


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("C", COLUMNS)
def test_apply(run_both, normal, unwritten, C, bias):
    x = 1 + normal(0, 65, C, size=2.0)
    mean, rstd = statistics(x)
    arguments = {
        "x_NC": x,
        "gamma_C": normal(1, C),
        "beta_C": normal(2, C) if bias else None,
        "mean_N": mean,
        "rstd_N": rstd,
        "y_NC": unwritten(65, C),
    }
    both = run_both("norm", "layer_norm_apply", arguments, {"y_NC"})
    assert largest_error(both.actual["y_NC"], both.expected["y_NC"], 1.0) < LAYER_NORM


def test_apply_repeats_the_bits_of_forward(run_kernel, normal, unwritten):
    first = forward_arguments(normal, unwritten, 1 + normal(0, 65, 100), bias=True)
    after, _ = run_kernel("norm", "layer_norm_forward", first, WRITTEN)
    second = {name: after[name] for name in ("x_NC", "gamma_C", "beta_C", "mean_N", "rstd_N")}
    again, _ = run_kernel(
        "norm", "layer_norm_apply", {**second, "y_NC": unwritten(65, 100)}, {"y_NC"}
    )
    assert again["y_NC"].tobytes() == after["y_NC"].tobytes()


def backward_arguments(normal, unwritten, N, C, *, residual, bias=True, accumulate=False):
    x = 1 + normal(0, N, C, size=2.0)
    mean, rstd = statistics(x)
    dx = unwritten(N, C)
    dres = {"none": None, "apart": normal(3, N, C), "dx": normal(3, N, C)}[residual]
    return {
        "dy_NC": normal(4, N, C),
        "x_NC": x,
        "gamma_C": normal(1, C),
        "mean_N": mean,
        "rstd_N": rstd,
        "dres_NC": dres,
        "dx_NC": dres if residual == "dx" else dx,
        "dgamma_C": normal(5, C) if accumulate else unwritten(C),
        "dbeta_C": (normal(6, C) if accumulate else unwritten(C)) if bias else None,
        "partial_2KC": unwritten(2, -(-N // 64), C),
        "accumulate": accumulate,
    }


OUT = {"dx_NC", "dgamma_C", "dbeta_C", "partial_2KC"}


def check_backward(both):
    g = np.abs(both.expected["dy_NC"] * both.expected["gamma_C"]).max()
    terms = float(both.expected["rstd_N"].max() * g)  # dx is a difference of these
    error = largest_error(both.actual["dx_NC"], both.expected["dx_NC"], terms)
    assert error < LAYER_NORM
    N = len(both.expected["dy_NC"])
    for name in ("dgamma_C", "dbeta_C"):
        if both.expected[name] is not None:
            error = largest_error(both.actual[name], both.expected[name], np.sqrt(N))
            assert error < LAYER_NORM + dot_product(N)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("C", COLUMNS)
@pytest.mark.parametrize("N", ROWS)
def test_backward(run_both, normal, unwritten, N, C, accumulate):
    arguments = backward_arguments(normal, unwritten, N, C, residual="apart", accumulate=accumulate)
    check_backward(run_both("norm", "layer_norm_backward", arguments, OUT))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("residual", ["none", "apart", "dx"])
def test_backward_with_every_kind_of_residual(run_both, normal, unwritten, residual, bias):
    arguments = backward_arguments(normal, unwritten, 70, 33, residual=residual, bias=bias)
    check_backward(run_both("norm", "layer_norm_backward", arguments, OUT))


def test_a_nan_in_one_row_stays_in_that_row(run_kernel, normal, unwritten):
    x = normal(0, 20, 40)
    x[7, 13] = np.nan
    arguments = forward_arguments(normal, unwritten, x, bias=True)
    after, _ = run_kernel("norm", "layer_norm_forward", arguments, WRITTEN)
    is_nan = np.isnan(after["y_NC"])
    assert is_nan[7].all()
    assert not np.delete(is_nan, 7, axis=0).any()


def test_equal_channels_give_beta(run_kernel, normal, unwritten):
    # sums of twos are exact, so the mean is 2 and nothing is left for rstd = 316 to blow up
    arguments = forward_arguments(normal, unwritten, np.full((3, 64), 2, np.float32), bias=True)
    after, _ = run_kernel("norm", "layer_norm_forward", arguments, WRITTEN)
    assert np.array_equal(after["y_NC"], np.broadcast_to(after["beta_C"], (3, 64)))
    assert np.allclose(after["rstd_N"], EPS**-0.5, rtol=FEW_ROUNDINGS)


def rms_forward_arguments(normal, unwritten, N, C):
    return {
        "h_NC": 1 + normal(0, N, C, size=2.0),
        "gamma_C": normal(1, C),
        "x_NC": unwritten(N, C),
        "y_NC": unwritten(N, C),
        "rstd_N": unwritten(N),
        "eps": EPS,
    }


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("C", COLUMNS)
@pytest.mark.parametrize("N", ROWS)
def test_rms_forward(run_both, normal, unwritten, N, C, kept):
    arguments = rms_forward_arguments(normal, unwritten, N, C)
    if not kept:
        arguments["x_NC"] = None
    written = {"y_NC", "rstd_N"} | ({"x_NC"} if kept else set())
    both = run_both("norm", "rms_norm_forward", arguments, written)
    assert largest_error(both.actual["y_NC"], both.expected["y_NC"], 1.0) < LAYER_NORM
    assert np.abs(both.actual["rstd_N"] / both.expected["rstd_N"] - 1).max() < LAYER_NORM


def test_rms_apply_repeats_the_bits_of_forward(run_kernel, normal, unwritten):
    first = rms_forward_arguments(normal, unwritten, 65, 100)
    after, _ = run_kernel("norm", "rms_norm_forward", first, {"x_NC", "y_NC", "rstd_N"})
    second = {name: after[name] for name in ("x_NC", "gamma_C", "rstd_N")}
    again, _ = run_kernel(
        "norm", "rms_norm_apply", {**second, "y_NC": unwritten(65, 100)}, {"y_NC"}
    )
    assert again["y_NC"].tobytes() == after["y_NC"].tobytes()


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("residual", ["none", "apart", "dx"])
@pytest.mark.parametrize("C", COLUMNS)
@pytest.mark.parametrize("N", ROWS)
def test_rms_backward(run_both, normal, unwritten, N, C, residual, accumulate):
    x = 1 + normal(0, N, C, size=2.0)
    dres = None if residual == "none" else normal(3, N, C)
    arguments = {
        "dy_NC": normal(4, N, C),
        "x_NC": x,
        "gamma_C": normal(1, C),
        "rstd_N": ((np.square(x, dtype=np.float64).mean(axis=1) + EPS) ** -0.5).astype(np.float32),
        "dres_NC": dres,
        "dx_NC": dres if residual == "dx" else unwritten(N, C),
        "dgamma_C": normal(5, C) if accumulate else unwritten(C),
        "partial_KC": unwritten(-(-N // 64), C),
        "accumulate": accumulate,
    }
    both = run_both("norm", "rms_norm_backward", arguments, {"dx_NC", "dgamma_C", "partial_KC"})
    g = np.abs(both.expected["dy_NC"] * both.expected["gamma_C"]).max()
    terms = float(both.expected["rstd_N"].max() * g)  # dx is a difference of these
    assert largest_error(both.actual["dx_NC"], both.expected["dx_NC"], terms) < LAYER_NORM
    error = largest_error(both.actual["dgamma_C"], both.expected["dgamma_C"], np.sqrt(N))
    assert error < LAYER_NORM + dot_product(N)


@pytest.mark.parametrize("C", [1, 33, 64])
def test_rms_rows_of_zeros_stay_zero_and_have_a_finite_gradient(run_kernel, normal, unwritten, C):
    arguments = {**rms_forward_arguments(normal, unwritten, 3, C), "h_NC": np.zeros((3, C), "f4")}
    after, _ = run_kernel("norm", "rms_norm_forward", arguments, {"x_NC", "y_NC", "rstd_N"})
    assert not after["y_NC"].any()
    assert np.allclose(after["rstd_N"], EPS**-0.5, rtol=FEW_ROUNDINGS)
    dy, gamma = normal(4, 3, C), arguments["gamma_C"]
    back = {
        "dy_NC": dy,
        "x_NC": after["x_NC"].copy(),
        "gamma_C": gamma,
        "rstd_N": after["rstd_N"].copy(),
        "dres_NC": None,
        "dx_NC": unwritten(3, C),
        "dgamma_C": unwritten(C),
        "partial_KC": unwritten(1, C),
        "accumulate": False,
    }
    found, _ = run_kernel("norm", "rms_norm_backward", back, {"dx_NC", "dgamma_C", "partial_KC"})
    assert np.allclose(found["dx_NC"], dy * gamma * EPS**-0.5, rtol=4 * FEW_ROUNDINGS)
    assert not found["dgamma_C"].any()


def test_rms_norm_has_no_mean_to_lose_digits_by(run_both, normal, unwritten):
    """Layer norm of such rows is off by LAYER_NORM_OFFSET."""
    arguments = rms_forward_arguments(normal, unwritten, 5, 384)
    arguments["h_NC"] = arguments["h_NC"] + np.float32(2000)
    both = run_both("norm", "rms_norm_forward", arguments, {"x_NC", "y_NC", "rstd_N"})
    assert largest_error(both.actual["y_NC"], both.expected["y_NC"], 1.0) < LAYER_NORM
