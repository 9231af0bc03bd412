"""A number that is added to all logits of a row changes nothing: softmax does not see it.

Logits are multiples of 2^-7, which float32 holds exactly up to 2^17, so they are exact with every
offset here, and so are their distances from the row's maximum. Whatever is computed from those
distances has the same bits with any offset; what comes from a log-sum-exp that was rounded at the
size of the offset (1e5: to 4e-3) does not.
"""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import EPS32, largest_error

OFFSETS = [1e3, -1e3, 1e4, 1e5, -1e5]
every_offset = pytest.mark.parametrize("offset", OFFSETS)

#: A gradient w (s - q): an exponential of half a unit in the last place of its argument, which is
#: below 16 here, a sum, a quotient and two products. It is relative to the largest element, at the
#: target, where s is small beside 1.
GRADIENT = 2 * EPS32

#: A loss of size 10: a logarithm, and the distance of a logit from the maximum, which is exact.
LOSS = 2 * EPS32

TILES = {
    "cross_entropy": ("cross_entropy_tile", {"label_smoothing": 0.0}),
    "label_smoothing": ("cross_entropy_tile", {"label_smoothing": 0.1}),
    "focal": ("focal_tile", {"gamma": 2.0}),
    "focal_root": ("focal_tile", {"gamma": 0.5}),
}
every_tile = pytest.mark.parametrize(("function", "option"), TILES.values(), ids=TILES.keys())
OUT = {"logits_NV", "losses_N"}

#: One below a vector of each level, whole vectors, and tails after four of them.
VOCABULARIES = [3, 16, 71, 1000]


def exact_logits(normal, N, V, offset):
    return (np.round(2 * normal(0, N, V) * 128) / 128 + np.float32(offset)).astype(np.float32)


def tile(normal, unwritten, option, V, offset, N=9):
    return {
        "logits_NV": exact_logits(normal, N, V, offset),
        "targets_N": np.random.default_rng(3).integers(0, V, N).astype(np.int32),
        "weights_N": 0.1 + np.abs(normal(1, N)),
        "losses_N": unwritten(N),
        **option,
        "gradient": True,
    }


@every_tile
@every_offset
@pytest.mark.parametrize("V", VOCABULARIES)
def test_losses_and_gradients_are_accurate(
    run_both, normal, unwritten, function, option, V, offset
):
    arguments = tile(normal, unwritten, option, V, offset)
    both = run_both("cross_entropy", function, arguments, OUT)
    assert largest_error(both.actual["losses_N"], both.expected["losses_N"]) < LOSS
    weight_N1 = arguments["weights_N"][:, None].astype(np.float64)
    found, expected = both.actual["logits_NV"] / weight_N1, both.expected["logits_NV"] / weight_N1
    assert largest_error(found, expected) < GRADIENT


@every_tile
@every_offset
def test_the_bits_are_those_without_it(run_kernel, normal, unwritten, function, option, offset):
    plain, _ = run_kernel(
        "cross_entropy", function, tile(normal, unwritten, option, 1000, 0.0), OUT
    )
    moved, _ = run_kernel(
        "cross_entropy", function, tile(normal, unwritten, option, 1000, offset), OUT
    )
    for name in OUT:
        assert moved[name].tobytes() == plain[name].tobytes()


@every_offset
@pytest.mark.parametrize("V", VOCABULARIES)
def test_a_softmax_is_accurate_from_the_sums_that_losses_of_plugins_use(
    run_both, normal, unwritten, V, offset
):
    sums = {
        "logits_NV": exact_logits(normal, 9, V, offset),
        "top_N": unwritten(9),
        "total_N": unwritten(9),
    }
    both = run_both("cross_entropy", "exp_sum", sums, {"top_N", "total_N"})
    assert both.actual["top_N"].tolist() == both.expected["top_N"].tolist()
    assert largest_error(both.actual["total_N"], both.expected["total_N"]) < GRADIENT
    gradient = {
        **{name: both.actual[name] for name in ("logits_NV", "top_N", "total_N")},
        "targets_N": np.full(9, -100, np.int32),
        "coefficient_N": np.ones(9, np.float32),
        "target_coefficient_N": np.ones(9, np.float32),
    }
    both = run_both("cross_entropy", "softmax_gradient", gradient, {"logits_NV"})
    assert largest_error(both.actual["logits_NV"], both.expected["logits_NV"]) < GRADIENT


@every_offset
def test_a_decoded_token_looks_the_same_way(run_both, normal, unwritten, offset):
    """Scores of one query: q k = offset + multiples of 2^-7, of which float32 holds every sum."""
    T, D = 71, 4
    keys_TD = np.round(normal(0, T, D) * 128) / 128
    keys_TD[:, 0] = offset
    query_D = np.ones(D, np.float32)
    cache = {"k_BKSD": keys_TD.reshape(1, 1, T, D).astype(np.float32)}
    arguments = {
        "qkv_BE": np.concatenate([query_D, keys_TD[-1], normal(1, D)])[None].astype(np.float32),
        **cache,
        "v_BKSD": normal(2, 1, 1, T, D),
        "out_BC": unwritten(1, D),
        "position_B": np.full(1, T - 1, np.int32),
        "n_head": 1,
        "n_kv_head": 1,
        "scale": 1.0,
        "first_B": np.zeros(1, np.int32),
    }
    both = run_both("attention", "attention_decode", arguments, {"k_BKSD", "v_BKSD", "out_BC"})
    # a sum of 71 values, each weighed
    assert largest_error(both.actual["out_BC"], both.expected["out_BC"], 1.0) < 4 * EPS32
