"""The compiled entropy of attention against its twin, and what entropy must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from packing import starts_of
from tolerances import ATTENTION_FORWARD, largest_error

from tisslm.ops.reference.attention import attention_forward
from tisslm.ops.reference.storage import store, widen

TYPES = ["float32", "uint16", "float16"]
NO_DROPOUT = (0.0, 0, 0, 0, 0)

#: The entropy of up to 200 keys is a sum of as many terms, each with the error of its score.
ENTROPY = 4 * ATTENTION_FORWARD


def arguments_of(normal, dtype, B, H, K, T, D, start=None, size=1.0, stop=None):
    """The call on what forward leaves of normal numbers, computed in double precision."""
    qkv = np.empty((B, T, (H + 2 * K) * D), dtype)
    store(qkv, normal(0, *qkv.shape, size=size))
    lse, out = np.empty((B, H, T)), np.empty((B, T, H * D))
    exact = widen(qkv).astype(np.float64)
    attention_forward(exact, out, lse, H, K, D**-0.5, *NO_DROPOUT, start, stop)
    return {
        "qkv_BTE": qkv,
        "lse_BHT": lse.astype(np.float32),
        "entropy_BHT": np.full((B, H, T), np.nan, np.float32),
        "n_head": H,
        "n_kv_head": K,
        "scale": D**-0.5,
        "start_BT": start,
        "stop_BT": stop,
    }


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(("B", "H", "K"), [(1, 1, 1), (2, 4, 2), (3, 3, 1)])
@pytest.mark.parametrize(("T", "D"), [(1, 8), (5, 7), (63, 16), (64, 64), (65, 20), (200, 33)])
def test_the_kernel_is_its_twin(run_both, normal, dtype, documents, B, H, K, T, D):
    start = starts_of(T, B, T) if documents else None
    arguments = arguments_of(normal, dtype, B, H, K, T, D, start)
    both = run_both("attention", "attention_entropy", arguments, {"entropy_BHT"})
    assert not both.actual_code
    error = largest_error(both.actual["entropy_BHT"], both.expected["entropy_BHT"], 1.0)
    assert error < ENTROPY


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("T", [1, 64, 130])
def test_equal_scores_have_the_logarithm_of_the_number_of_keys(run_kernel, normal, dtype, T):
    arguments = arguments_of(normal, dtype, 2, 2, 1, T, 16, size=0.0)
    after, _ = run_kernel("attention", "attention_entropy", arguments, {"entropy_BHT"})
    expected = np.broadcast_to(np.log(np.arange(1, T + 1)), (2, 2, T))
    assert largest_error(after["entropy_BHT"], expected, 1.0) < ENTROPY


def test_one_key_that_has_all_leaves_nothing(run_kernel, normal):
    """Scores of thousands: probabilities of others are zero, and entropy is no less than that."""
    arguments = arguments_of(normal, "float32", 2, 2, 2, 130, 16, size=100.0)
    after, _ = run_kernel("attention", "attention_entropy", arguments, {"entropy_BHT"})
    entropy = after["entropy_BHT"]
    assert (entropy >= 0.0).all()
    assert np.median(entropy) < 1e-3


def test_a_query_that_is_not_a_number_has_no_entropy_and_others_have(run_kernel, normal):
    arguments = arguments_of(normal, "float32", 1, 2, 2, 130, 16)
    arguments["qkv_BTE"][0, 70, 0] = math.nan  # of the first head
    after, _ = run_kernel("attention", "attention_entropy", arguments, {"entropy_BHT"})
    is_nan = np.isnan(after["entropy_BHT"][0])
    assert is_nan[0, 70]
    assert is_nan.sum() == 1
