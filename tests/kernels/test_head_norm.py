"""The compiled norms of queries and keys against their twins, in every type of storage."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import LAYER_NORM, STORED_EPS, dot_product, largest_error

from tisslm.ops.reference.storage import store, widen

EPS = 1e-6
TYPES = ["float32", "uint16", "float16"]
#: B, T, H, K, D: heads below, at and above a vector, odd, rows of one block and of several.
SHAPES = [
    (1, 1, 1, 1, 2),
    (1, 65, 2, 1, 7),
    (2, 9, 4, 4, 16),
    (3, 43, 6, 2, 33),
    (2, 64, 3, 1, 64),
    (1, 11, 8, 2, 100),
]
by_head_and_over_all = pytest.mark.parametrize("by_head", [True, False])


def stored(normal, dtype, seed, *shape):
    x = np.empty(shape, dtype)
    store(x, normal(seed, *shape, size=2.0))
    return x


def unset(dtype, *shape):
    return np.full(shape, 0x7FC1 if dtype == "uint16" else np.nan, dtype)


def gammas(normal, shape, by_head):
    _, _, H, K, D = shape
    widths = (D, D) if by_head else (H * D, K * D)
    return [1 + normal(seed, width, size=0.3) for seed, width in enumerate(widths, 5)]


def forward_arguments(normal, unwritten, shape, dtype, by_head, *, in_place=False):
    B, T, H, K, D = shape
    gamma_q, gamma_k = gammas(normal, shape, by_head)
    qkv = stored(normal, dtype, 0, B, T, (H + 2 * K) * D)
    return {
        "qkv_BTE": qkv,
        "gamma_q": gamma_q,
        "gamma_k": gamma_k,
        "rstd_NU": unwritten(B * T, H + K if by_head else 2),
        "out_BTE": qkv if in_place else unset(dtype, *qkv.shape),
        "n_head": H,
        "n_kv_head": K,
        "eps": EPS,
    }


def backward_arguments(run_both, normal, unwritten, shape, dtype, by_head, *, accumulate=False):
    """Return those of the kernel that follows forward, with its statistics."""
    B, T, H, K, _ = shape
    before = forward_arguments(normal, unwritten, shape, dtype, by_head)
    after = run_both("head_norm", "head_norm_forward", before, {"rstd_NU", "out_BTE"}).actual
    width = after["gamma_q"].size, after["gamma_k"].size
    dgamma = [normal(8 + i, w) if accumulate else unwritten(w) for i, w in enumerate(width)]
    return {
        "dout_BTE": stored(normal, dtype, 1, *after["qkv_BTE"].shape),
        **{name: after[name].copy() for name in ("qkv_BTE", "gamma_q", "gamma_k", "rstd_NU")},
        "dqkv_BTE": unset(dtype, *after["qkv_BTE"].shape),
        "dgamma_q": dgamma[0],
        "dgamma_k": dgamma[1],
        "partial_KW": unwritten(-(-B * T // 64), sum(width)),
        "n_head": H,
        "n_kv_head": K,
        "accumulate": accumulate,
    }


OUT = {"dqkv_BTE", "dgamma_q", "dgamma_k", "partial_KW"}


@by_head_and_over_all
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(run_both, normal, unwritten, shape, dtype, by_head):
    arguments = forward_arguments(normal, unwritten, shape, dtype, by_head)
    both = run_both("head_norm", "head_norm_forward", arguments, {"rstd_NU", "out_BTE"})
    found, expected = (widen(x["out_BTE"]) for x in (both.actual, both.expected))
    bound = LAYER_NORM + STORED_EPS.get(dtype, 0.0)
    assert largest_error(found, expected.astype(np.float64), 1.0) < bound
    relative = both.actual["rstd_NU"] / both.expected["rstd_NU"] - 1
    assert np.abs(relative).max() < LAYER_NORM


@pytest.mark.parametrize("accumulate", [False, True])
@by_head_and_over_all
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(run_both, normal, unwritten, shape, dtype, by_head, accumulate):
    B, T, H, _, _ = shape
    arguments = backward_arguments(
        run_both, normal, unwritten, shape, dtype, by_head, accumulate=accumulate
    )
    both = run_both("head_norm", "head_norm_backward", arguments, OUT)
    found, expected = (widen(x["dqkv_BTE"]) for x in (both.actual, both.expected))
    d = np.abs(widen(arguments["dout_BTE"])).max() * np.abs(arguments["gamma_q"]).max()
    terms = float(arguments["rstd_NU"].max() * d)  # dx is a difference of these
    bound = LAYER_NORM + STORED_EPS.get(dtype, 0.0)
    assert largest_error(found, expected.astype(np.float64), terms) < bound
    added = B * T * (H if by_head else 1)
    for name in ("dgamma_q", "dgamma_k"):
        size = 2 * np.sqrt(added)  # of a sum of products with gradients of size 2
        error = largest_error(both.actual[name], both.expected[name], size)
        assert error < LAYER_NORM + dot_product(added), name


@by_head_and_over_all
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_in_place_has_the_bits_of_apart(
    run_both, run_kernel, normal, unwritten, shape, dtype, by_head
):
    results = {"rstd_NU", "out_BTE"}
    found = []
    for in_place in (False, True):
        arguments = forward_arguments(normal, unwritten, shape, dtype, by_head, in_place=in_place)
        found.append(run_kernel("head_norm", "head_norm_forward", arguments, results)[0])
    for name in results:
        assert found[0][name].tobytes() == found[1][name].tobytes()
    arguments = backward_arguments(run_both, normal, unwritten, shape, dtype, by_head)
    apart, _ = run_kernel("head_norm", "head_norm_backward", arguments, OUT)
    arguments = {**arguments, "dqkv_BTE": arguments["dout_BTE"]}
    within, _ = run_kernel("head_norm", "head_norm_backward", arguments, OUT)
    for name in OUT:
        assert apart[name].tobytes() == within[name].tobytes()


@by_head_and_over_all
@pytest.mark.parametrize("dtype", TYPES)
def test_values_have_their_bits(run_both, normal, unwritten, dtype, by_head):
    shape = (2, 9, 4, 2, 33)
    arguments = backward_arguments(run_both, normal, unwritten, shape, dtype, by_head)
    both = run_both("head_norm", "head_norm_backward", arguments, OUT)
    values = slice(6 * 33, None)
    found, given = both.actual["dqkv_BTE"], arguments["dout_BTE"]
    assert found[:, :, values].tobytes() == given[:, :, values].tobytes()


def test_rows_and_heads_do_not_know_each_other(run_kernel, normal, unwritten):
    shape = (1, 5, 4, 2, 20)
    arguments = forward_arguments(normal, unwritten, shape, "float32", by_head=True)
    arguments["qkv_BTE"][0, 3, 25] = np.nan
    after, _ = run_kernel("head_norm", "head_norm_forward", arguments, {"rstd_NU", "out_BTE"})
    is_nan = np.isnan(after["out_BTE"][0])
    assert is_nan[3, 20:40].all()
    assert is_nan.sum() == 20
    assert np.argwhere(np.isnan(after["rstd_NU"])).tolist() == [[3, 1]]
