"""The compiled attention against its twin: tiles, heads, dropout, decoding."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from tolerances import ATTENTION_BACKWARD, ATTENTION_FORWARD, largest_error

from tisslm.ops.reference.dropout import keep_mask

TIMES = [1, 5, 63, 64, 65, 130]
SIZES = [8, 16, 20, 32, 64, 80]
HEADS = [(1, 1, 1), (2, 2, 2), (2, 4, 2), (3, 3, 1)]  # samples, heads, kv-heads
KEY = {"seed": 2**40 + 3, "update": 5, "site": 7, "first_row": 11}

# every time with every head size, kinds of heads in turn; and every kind around a tile's edge
CASES = [
    (*HEADS[(i + j) % len(HEADS)], T, D) for i, T in enumerate(TIMES) for j, D in enumerate(SIZES)
] + [(*heads, 65, 20) for heads in HEADS]


def forward_arguments(normal, unwritten, B, H, K, T, D, p, size=1.0):
    return {
        "qkv_BTE": normal(0, B, T, (H + 2 * K) * D, size=size),
        "out_BTC": unwritten(B, T, H * D),
        "lse_BHT": unwritten(B, H, T),
        "n_head": H,
        "n_kv_head": K,
        "scale": 1 / math.sqrt(D),
        "p": p,
        **KEY,
        "start_BT": None,
        "stop_BT": None,
    }


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("B", "H", "K", "T", "D"), CASES)
def test_forward(run_both, normal, unwritten, B, H, K, T, D, p):
    arguments = forward_arguments(normal, unwritten, B, H, K, T, D, p)
    both = run_both("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
    for name in ("out_BTC", "lse_BHT"):
        assert largest_error(both.actual[name], both.expected[name], 1.0) < ATTENTION_FORWARD


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("B", "H", "K", "T", "D"), CASES)
def test_backward(run_both, normal, unwritten, dkv_of, B, H, K, T, D, p):
    arguments = forward_arguments(normal, unwritten, B, H, K, T, D, p)
    before = run_both("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"}).expected
    arguments = {
        "dout_BTC": normal(1, B, T, H * D),
        "qkv_BTE": arguments["qkv_BTE"],
        "out_BTC": before["out_BTC"].astype(np.float32),
        "lse_BHT": before["lse_BHT"].astype(np.float32),
        "dqkv_BTE": unwritten(B, T, (H + 2 * K) * D),
        **{name: arguments[name] for name in list(arguments)[3:]},
        "dkv_M2TD": dkv_of(B, T, H, K, D),
    }
    both = run_both("attention", "attention_backward", arguments, {"dqkv_BTE", "dkv_M2TD"})
    edges = [H * D, (H + K) * D]
    actual = np.split(both.actual["dqkv_BTE"], edges, axis=2)
    expected = np.split(both.expected["dqkv_BTE"], edges, axis=2)
    for part in range(3):  # dq, dk and dv each by their own size; with T = 1 the first two are 0
        assert largest_error(actual[part], expected[part], 1.0) < ATTENTION_BACKWARD


@pytest.mark.parametrize("size", [10.0, 100.0])
def test_large_scores_neither_overflow_nor_lose_the_largest(run_both, normal, unwritten, size):
    # scores up to 400 and 40,000: exp of either overflows without the running maximum
    arguments = forward_arguments(normal, unwritten, 2, 2, 1, 65, 16, 0.0, size=size)
    both = run_both("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
    assert np.isfinite(both.actual["out_BTC"]).all()
    error = largest_error(both.actual["lse_BHT"], both.expected["lse_BHT"])
    assert error < ATTENTION_FORWARD
    if size == 10.0:  # beyond, a score's last digit alone is more than 1
        error = largest_error(both.actual["out_BTC"], both.expected["out_BTC"])
        assert error < 100 * ATTENTION_FORWARD


@pytest.mark.parametrize("T", [5, 65, 130])
def test_the_mask_is_the_twins_to_the_bit(run_kernel, unwritten, T):
    """Equal scores and one-hot values: out[t, d] is the weight of key offset + d, or zero."""
    B, H, K, D, p = 2, 3, 1, 32, 0.5
    keep_of_key = keep_mask(B, H * T * T, p, **KEY).reshape(B, H, T, T)
    keep = keep_of_key.swapaxes(2, 3) & np.tri(T, dtype=bool)
    for offset in range(0, T, D):
        qkv = np.zeros((B, T, H + 2 * K, D), np.float32)
        window = np.arange(offset, min(T, offset + D))
        qkv[:, window, -1, window - offset] = 1
        arguments = {
            "qkv_BTE": qkv.reshape(B, T, -1),
            "out_BTC": unwritten(B, T, H * D),
            "lse_BHT": unwritten(B, H, T),
            "n_head": H,
            "n_kv_head": K,
            "scale": 1.0,
            "p": p,
            **KEY,
            "start_BT": None,
            "stop_BT": None,
        }
        after, _ = run_kernel("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
        weight = after["out_BTC"].reshape(B, T, H, D).transpose(0, 2, 1, 3)[..., : len(window)]
        assert np.array_equal(weight != 0, keep[..., window])


@pytest.mark.parametrize("T", [5, 65, 130])
def test_a_later_token_changes_no_bit_of_an_earlier_one(run_kernel, normal, unwritten, T):
    arguments = forward_arguments(normal, unwritten, 2, 4, 2, T, 20, 0.3)
    base, _ = run_kernel("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
    for t in {1, T // 2, T - 1}:
        changed = arguments["qkv_BTE"].copy()
        changed[:, t:] += 1
        after, _ = run_kernel(
            "attention",
            "attention_forward",
            {**arguments, "qkv_BTE": changed},
            {"out_BTC", "lse_BHT"},
        )
        assert np.array_equal(after["out_BTC"][:, :t], base["out_BTC"][:, :t])
        assert not np.array_equal(after["out_BTC"][:, t], base["out_BTC"][:, t])


@pytest.mark.parametrize("part", [0, 1, 2], ids=["q", "k", "v"])
def test_nan_reaches_every_query_that_sees_it(run_kernel, normal, unwritten, part):
    T, D, t = 70, 16, 40
    arguments = forward_arguments(normal, unwritten, 1, 1, 1, T, D, 0.0)
    arguments["qkv_BTE"][0, t, part * D] = np.nan
    after, _ = run_kernel("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
    is_nan = np.isnan(after["out_BTC"][0]).any(axis=1)
    assert is_nan[t]
    if part > 0:
        assert is_nan[t:].all()


@pytest.mark.parametrize(("H", "K"), [(1, 1), (4, 2), (3, 1)])
@pytest.mark.parametrize("D", SIZES)
def test_decode_is_the_last_row_of_the_whole_pass(run_both, normal, unwritten, H, K, D):
    B, S = 2, 70
    for T in (1, 17, 64, 65):
        arguments = forward_arguments(normal, unwritten, B, H, K, T, D, 0.0)
        whole = run_both("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
        qkv = arguments["qkv_BTE"].reshape(B, T, H + 2 * K, D)
        k_cache, v_cache = unwritten(B, K, S, D), unwritten(B, K, S, D)
        k_cache[:, :, : T - 1] = qkv[:, :-1, H : H + K].transpose(0, 2, 1, 3)
        v_cache[:, :, : T - 1] = qkv[:, :-1, H + K :].transpose(0, 2, 1, 3)
        step = {
            "qkv_BE": qkv[:, -1].reshape(B, -1),
            "k_BKSD": k_cache,
            "v_BKSD": v_cache,
            "out_BC": unwritten(B, H * D),
            "position_B": np.full(B, T - 1, np.int32),
            "n_head": H,
            "n_kv_head": K,
            "scale": arguments["scale"],
            "first_B": np.zeros(B, np.int32),
        }
        both = run_both("attention", "attention_decode", step, {"k_BKSD", "v_BKSD", "out_BC"})
        for expected in (both.expected["out_BC"], whole.actual["out_BTC"][:, -1]):
            assert largest_error(both.actual["out_BC"], expected, 1.0) < ATTENTION_FORWARD
        for name in ("k_BKSD", "v_BKSD"):
            assert np.array_equal(both.actual[name], both.expected[name], equal_nan=True)


@pytest.mark.parametrize(("H", "K"), [(1, 1), (4, 2), (3, 1)])
@pytest.mark.parametrize("D", SIZES)
@pytest.mark.parametrize(("position", "first"), [(0, 0), (5, 5), (16, 3), (63, 0), (69, 40)])
def test_decode_sees_keys_from_the_first(run_both, normal, unwritten, H, K, D, position, first):
    """Keys before it are NaN, as those that a window has left; each sample has its own place."""
    B, S = 2, 70
    k_cache, v_cache = unwritten(B, K, S, D), unwritten(B, K, S, D)
    filled = slice(first, position)
    k_cache[:, :, filled] = normal(1, B, K, position - first, D)
    v_cache[:, :, filled] = normal(2, B, K, position - first, D)
    step = {
        "qkv_BE": normal(0, B, (H + 2 * K) * D),
        "k_BKSD": k_cache,
        "v_BKSD": v_cache,
        "out_BC": unwritten(B, H * D),
        "position_B": np.array([position, max(position - 2, first)], np.int32),
        "n_head": H,
        "n_kv_head": K,
        "scale": 1 / math.sqrt(D),
        "first_B": np.full(B, first, np.int32),
    }
    both = run_both("attention", "attention_decode", step, {"k_BKSD", "v_BKSD", "out_BC"})
    assert largest_error(both.actual["out_BC"], both.expected["out_BC"], 1.0) < ATTENTION_FORWARD
    for name in ("k_BKSD", "v_BKSD"):
        assert np.array_equal(both.actual[name], both.expected[name], equal_nan=True)


def test_every_case_is_there():
    pairs = {(T, D) for *_, T, D in CASES}
    assert pairs >= set(itertools.product(TIMES, SIZES))
