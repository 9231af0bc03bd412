"""Sliding windows as starts that move with the query: kernels against a dense mask in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import starts_of_lengths
from tolerances import ATTENTION_BACKWARD, ATTENTION_FORWARD, STORED_EPS, largest_error

from tisslm.models.window import fill_window
from tisslm.ops.reference.storage import store, widen

H, K, D = 4, 2, 20
NO_DROPOUT = {"p": 0.0, "seed": 0, "update": 0, "site": 0, "first_row": 0}
TYPES = ["float32", "uint16", "float16"]


def low(dtype, values):
    made = np.empty(values.shape, dtype)
    store(made, values)
    return made


@pytest.fixture
def run(run_kernel, dkv_of):
    """``run(qkv, dout, see)``: output, log-sum-exp, gradients and entropy of the kernels."""

    def three(qkv, dout, see):
        B, T, _ = qkv.shape
        heads = {"n_head": H, "n_kv_head": K, "scale": D**-0.5}
        out, lse = low(qkv.dtype, np.full(dout.shape, np.nan)), np.full((B, H, T), np.nan, "f4")
        first = {"qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse, **heads, **NO_DROPOUT}
        first |= {"start_BT": see, "stop_BT": None}
        ahead, _ = run_kernel("attention", "attention_forward", first, {"out_BTC", "lse_BHT"})
        out, lse = ahead["out_BTC"].copy(), ahead["lse_BHT"].copy()
        second = {"dout_BTC": dout, "qkv_BTE": qkv, "out_BTC": out, "lse_BHT": lse}
        second |= {"dqkv_BTE": low(qkv.dtype, np.full(qkv.shape, np.nan)), **heads, **NO_DROPOUT}
        second |= {"start_BT": see, "stop_BT": None, "dkv_M2TD": dkv_of(B, T, H, K, D)}
        back, _ = run_kernel("attention", "attention_backward", second, {"dqkv_BTE", "dkv_M2TD"})
        third = {"qkv_BTE": qkv, "lse_BHT": lse, "entropy_BHT": np.full_like(lse, np.nan), **heads}
        third |= {"start_BT": see, "stop_BT": None}
        wide, _ = run_kernel("attention", "attention_entropy", third, {"entropy_BHT"})
        return out, lse, back["dqkv_BTE"], wide["entropy_BHT"]

    return three


def dense(qkv_TE, dout_TC, seen_TT):
    """One row by the whole matrix of scores and a mask of ones and zeros, head by head."""
    T = len(qkv_TE)
    q, k, v = np.split(qkv_TE.reshape(T, -1, D).swapaxes(0, 1), [H, H + K])
    dout = dout_TC.reshape(T, H, D).swapaxes(0, 1)
    out, lse, entropy = np.empty((H, T, D)), np.empty((H, T)), np.empty((H, T))
    dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    for h in range(H):
        kv = h // (H // K)
        weight = np.exp(q[h] @ k[kv].T * D**-0.5) * seen_TT
        P = weight / weight.sum(axis=1, keepdims=True)
        lse[h], out[h] = np.log(weight.sum(axis=1)), P @ v[kv]
        entropy[h] = -(P * np.log(P, where=P > 0, out=np.zeros_like(P))).sum(axis=1)
        dP = dout[h] @ v[kv].T
        dS = P * (dP - (P * dP).sum(axis=1, keepdims=True)) * D**-0.5
        dq[h] = dS @ k[kv]
        dk[kv] += dS.T @ q[h]
        dv[kv] += P.T @ dout[h]
    dqkv = np.concatenate([dq, dk, dv]).swapaxes(0, 1).reshape(T, -1)
    return out.swapaxes(0, 1).reshape(T, -1), lse, dqkv, entropy


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    window=st.one_of(
        st.integers(1, 20), st.sampled_from([31, 63, 64, 65, 128]), st.integers(1, 300)
    ),
    dtype=st.sampled_from(TYPES),
    seed=st.integers(0, 2**16),
)
def test_the_kernels_are_a_dense_mask(run, normal, lengths, window, dtype, seed):
    """Documents of any lengths and a window of any size, beside a row that is one document."""
    start = np.stack([starts_of_lengths(lengths), starts_of_lengths([sum(lengths)])])
    B, T = start.shape
    see = np.empty_like(start)
    fill_window(see, start, window)
    qkv = low(dtype, normal(seed, B, T, (H + 2 * K) * D))
    dout = low(dtype, normal(seed + 1, B, T, H * D))
    found = run(qkv, dout, see)
    t = np.arange(T)
    near = (t[:, None] >= t) & (t[:, None] - t < window)
    eps = STORED_EPS.get(dtype, 0.0)
    bounds = {
        "out": ATTENTION_FORWARD + 3 * eps,
        "lse": 1e-5 if eps else ATTENTION_FORWARD,
        "dqkv": ATTENTION_BACKWARD + 5 * eps,
        "entropy": 1e-4 if eps else 4 * ATTENTION_FORWARD,
    }
    for b in range(B):
        one = (widen(x[b]).astype(np.float64) for x in (qkv, dout))
        expected = dense(*one, near & (start[b][:, None] == start[b]))
        for (name, bound), array, right in zip(bounds.items(), found, expected, strict=True):
            assert largest_error(widen(array[b]), right, 1.0) < bound, name


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("window", [1, 20, 64, 100])
def test_tiles_that_no_query_sees_are_not_touched(run, normal, dtype, window):
    """A token of NaN reaches nobody farther away than the window and the tiles at its two ends."""
    T, bad, tile = 512, 200, 64
    see = np.empty((1, T), np.int32)
    fill_window(see, None, window)
    qkv, dout = normal(0, 1, T, (H + 2 * K) * D), normal(1, 1, T, H * D)
    qkv[0, bad] = dout[0, bad] = np.nan
    out, lse, dqkv, entropy = run(low(dtype, qkv), low(dtype, dout), see)
    first, last = bad // tile * tile, bad // tile * tile + tile  # the token's own tile
    beyond = (
        last + -(-(window - 1) // tile) * tile
    )  # the last query that sees a key of it, and its tile
    for name, is_nan in (
        ("out", np.isnan(widen(out)[0]).any(axis=1)),
        ("lse", np.isnan(lse[0]).any(axis=0)),
        ("entropy", np.isnan(entropy[0]).any(axis=0)),
    ):
        assert is_nan[bad], name
        assert not is_nan[:first].any(), name
        assert not is_nan[beyond:].any(), name
    is_nan = np.isnan(widen(dqkv)[0]).any(axis=1)
    before = first - -(-(window - 1) // tile) * tile  # the first key that a query of that sees
    assert is_nan[bad]
    assert not is_nan[:before].any()
    assert not is_nan[beyond:].any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("window", [1, 40, 64, 65])
def test_dropout_within_a_window_is_the_twins(run_both, normal, dkv_of, dtype, window):
    start = np.stack([starts_of_lengths([150, 50]), starts_of_lengths([3, 97, 100])])
    (B, T), see = start.shape, np.empty_like(start)
    fill_window(see, start, window)
    key = {"p": 0.3, "seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 11}
    rest = {"n_head": H, "n_kv_head": K, "scale": D**-0.5, **key, "start_BT": see, "stop_BT": None}
    qkv, nothing = low(dtype, normal(0, B, T, (H + 2 * K) * D)), np.full((B, T, H * D), np.nan)
    first = {"qkv_BTE": qkv, "out_BTC": low(dtype, nothing), "lse_BHT": np.zeros((B, H, T), "f4")}
    out = {"out_BTC", "lse_BHT"}
    ahead = run_both("attention", "attention_forward", {**first, **rest}, out)
    second = {"dout_BTC": low(dtype, normal(1, B, T, H * D)), "qkv_BTE": qkv}
    second |= {name: ahead.actual[name].copy() for name in ("out_BTC", "lse_BHT")}
    second |= {"dqkv_BTE": low(dtype, np.full(qkv.shape, np.nan)), **rest}
    second["dkv_M2TD"] = dkv_of(B, T, H, K, D)
    back = run_both("attention", "attention_backward", second, {"dqkv_BTE", "dkv_M2TD"})
    eps = STORED_EPS.get(dtype, 0.0)
    for both, name, bound in (
        (ahead, "out_BTC", ATTENTION_FORWARD + 3 * eps),
        (back, "dqkv_BTE", ATTENTION_BACKWARD + 5 * eps),
    ):
        expected = widen(both.expected[name]).astype(np.float64)
        assert largest_error(widen(both.actual[name]), expected, 1.0) < bound, name
