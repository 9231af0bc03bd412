"""Attention at the head sizes of published models, on a token or two and over several tiles."""

from __future__ import annotations

import numpy as np
import pytest
from packing import starts_of
from tolerances import ATTENTION_BACKWARD, ATTENTION_FORWARD, STORED_EPS, largest_error

from tisslm.models.window import fill_window
from tisslm.ops.reference.storage import store, widen

#: Of GPT-2 and Llama 3.2 (64), Pythia (64, 80, 128), Qwen 3 (128), and others.
SIZES = [64, 80, 96, 128, 256]
KEY = {"p": 0.2, "seed": 3, "update": 5, "site": 7, "first_row": 11}


@pytest.mark.parametrize("dtype", ["float32", "uint16", "float16"])
@pytest.mark.parametrize(("H", "K"), [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("T", [1, 2, 3, 300])
@pytest.mark.parametrize("D", SIZES)
def test_the_kernels_are_their_twins(run_both, normal, dkv_of, dtype, D, T, H, K):
    """In a window over documents, with dropout."""
    B = 1 if T == 300 else 3

    def low(seed, *shape):
        made = np.empty(shape, dtype)
        store(made, np.full(shape, np.nan) if seed is None else normal(seed, *shape))
        return made

    see = np.empty((B, T), np.int32)
    fill_window(see, starts_of(T, B, T), 100)
    heads = {"n_head": H, "n_kv_head": K, "scale": D**-0.5}
    first = {"qkv_BTE": low(0, B, T, (H + 2 * K) * D), "out_BTC": low(None, B, T, H * D)}
    first |= {
        "lse_BHT": np.full((B, H, T), np.nan, np.float32),
        **heads,
        **KEY,
        "start_BT": see,
        "stop_BT": None,
    }
    ahead = run_both("attention", "attention_forward", first, {"out_BTC", "lse_BHT"})
    left = {name: ahead.actual[name].copy() for name in ("out_BTC", "lse_BHT")}
    second = {"dout_BTC": low(1, B, T, H * D), "qkv_BTE": first["qkv_BTE"], **left}
    second |= {
        "dqkv_BTE": low(None, *first["qkv_BTE"].shape),
        **heads,
        **KEY,
        "start_BT": see,
        "stop_BT": None,
    }
    second["dkv_M2TD"] = dkv_of(B, T, H, K, D)
    back = run_both("attention", "attention_backward", second, {"dqkv_BTE", "dkv_M2TD"})
    third = {"qkv_BTE": first["qkv_BTE"], "lse_BHT": left["lse_BHT"]}
    third |= {
        "entropy_BHT": np.full((B, H, T), np.nan, np.float32),
        **heads,
        "start_BT": see,
        "stop_BT": None,
    }
    wide = run_both("attention", "attention_entropy", third, {"entropy_BHT"})
    eps = STORED_EPS.get(dtype, 0.0)
    # dP and its row's sum are chains of D products and of size sqrt(D): their difference, which
    # vanishes where one key has all the weight, is off by as much as D roundings
    larger = max(1.0, D / 64)
    edges = [H * D, (H + K) * D]
    for both, name, bound, cuts in (
        (ahead, "out_BTC", ATTENTION_FORWARD + 3 * eps, []),
        (back, "dqkv_BTE", larger * ATTENTION_BACKWARD + 5 * eps, edges),
        (wide, "entropy_BHT", 4 * ATTENTION_FORWARD, []),
    ):
        found, expected = (
            np.split(widen(x[name]), cuts, axis=2) for x in (both.actual, both.expected)
        )
        for part, right in zip(found, expected, strict=True):
            assert largest_error(part, right.astype(np.float64), 1.0) < bound, name
