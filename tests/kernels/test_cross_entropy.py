"""The compiled losses against their twins."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import EPS32, dot_product, largest_error

ROWS = [1, 2, 7]
VOCABULARIES = [1, 2, 15, 16, 17, 63, 64, 65, 100, 4097]

#: exp and log of a few units in the last place; a logit of size 5 brings 5 roundings into exp.
EXP_LOG = 32 * EPS32

TILES = {
    "cross_entropy": ("cross_entropy_tile", "label_smoothing", 0.0),
    "label_smoothing": ("cross_entropy_tile", "label_smoothing", 0.1),
    "focal": ("focal_tile", "gamma", 2.0),
    "focal_zero": ("focal_tile", "gamma", 0.0),
    "focal_root": ("focal_tile", "gamma", 0.5),
}
every_tile = pytest.mark.parametrize(
    ("function", "option", "value"), TILES.values(), ids=TILES.keys()
)


def tolerance(V):
    return EXP_LOG + dot_product(V)


def make(normal, unwritten, N, V, option, value, *, gradient=True, size=2.0):
    targets_N = np.random.default_rng(3).integers(0, V, N).astype(np.int32)
    targets_N[2::4] = -100
    return {
        "logits_NV": normal(0, N, V, size=size),
        "targets_N": targets_N,
        "weights_N": 0.1 + np.abs(normal(1, N)),
        "losses_N": unwritten(N),
        option: value,
        "gradient": gradient,
    }


OUT = {"logits_NV", "losses_N"}


def assert_close(both, V):
    assert both.actual_code == both.expected_code == 0
    # a loss is a difference of logits, whose roundings it keeps
    scale = float(np.abs(both.expected["weights_N"]).max()) * 5
    assert largest_error(both.actual["losses_N"], both.expected["losses_N"], scale) < tolerance(V)
    error = largest_error(both.actual["logits_NV"], both.expected["logits_NV"], scale / 5)
    assert error < tolerance(V)


@every_tile
@pytest.mark.parametrize("V", VOCABULARIES)
@pytest.mark.parametrize("N", ROWS)
def test_tile(run_both, normal, unwritten, function, option, value, N, V):
    arguments = make(normal, unwritten, N, V, option, value)
    assert_close(run_both("cross_entropy", function, arguments, OUT), V)


@every_tile
def test_without_gradient_the_logits_stay_and_the_losses_are_the_same(
    run_kernel, normal, unwritten, function, option, value
):
    arguments = make(normal, unwritten, 7, 100, option, value)
    expected, _ = run_kernel("cross_entropy", function, arguments, OUT)
    arguments["gradient"] = False
    actual, _ = run_kernel("cross_entropy", function, arguments, OUT)
    assert actual["logits_NV"].tobytes() == arguments["logits_NV"].tobytes()
    assert actual["losses_N"].tobytes() == expected["losses_N"].tobytes()


@every_tile
def test_tiles_give_the_same_bits_for_any_number_of_threads_and_any_rows(
    run_kernel, normal, unwritten, function, option, value
):
    arguments = make(normal, unwritten, 37, 100, option, value)
    expected, _ = run_kernel("cross_entropy", function, arguments, OUT, n_threads=1)
    for rows, n_threads in ((slice(None), 2), (slice(None), 3), (slice(5, 18), 2)):
        part = {n: v[rows].copy() if n.endswith(("_N", "_NV")) else v for n, v in arguments.items()}
        actual, _ = run_kernel("cross_entropy", function, part, OUT, n_threads)
        for name in OUT:
            assert actual[name].tobytes() == expected[name][rows].tobytes()


@every_tile
@pytest.mark.parametrize("content", [0.5, np.nan, np.inf, -np.inf])
def test_no_target_is_a_constant_whatever_the_row_holds(
    run_both, normal, unwritten, function, option, value, content
):
    arguments = make(normal, unwritten, 7, 65, option, value)
    arguments["logits_NV"][2] = content
    both = run_both("cross_entropy", function, arguments, OUT)
    assert both.actual["losses_N"][2] == 0
    assert not both.actual["logits_NV"][2].any()
    assert_close(both, 65)


@every_tile
@pytest.mark.parametrize("bad", [-1, -101, 65, 2**31 - 1])
def test_the_first_bad_target_is_named_and_nothing_is_written(
    run_both, normal, unwritten, function, option, value, bad
):
    arguments = make(normal, unwritten, 7, 65, option, value)
    arguments["targets_N"][[3, 5]] = bad
    both = run_both("cross_entropy", function, arguments, OUT)
    assert both.actual_code == both.expected_code == 1 + 3
    assert both.actual["logits_NV"].tobytes() == arguments["logits_NV"].tobytes()
    assert np.isnan(both.actual["losses_N"]).all()


@every_tile
@pytest.mark.parametrize("at", [0, 5, 16, 64])
def test_a_nan_among_the_logits_shows_in_its_row(
    run_kernel, normal, unwritten, function, option, value, at
):
    arguments = make(normal, unwritten, 7, 65, option, value)
    arguments["logits_NV"][3, at] = np.nan
    after, _ = run_kernel("cross_entropy", function, arguments, OUT)
    assert np.flatnonzero(np.isnan(after["losses_N"])).tolist() == [3]
    assert np.isnan(after["logits_NV"]).all(axis=1).nonzero()[0].tolist() == [3]


@pytest.mark.parametrize("at", [0, 20, 64])
@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_masked_token_has_no_gradient(run_both, normal, unwritten, name, at):
    function, option, value = TILES[name]
    arguments = make(normal, unwritten, 7, 65, option, value)
    arguments["targets_N"][:] = 33
    arguments["logits_NV"][:, at] = -np.inf
    both = run_both("cross_entropy", function, arguments, OUT)
    assert not both.actual["logits_NV"][:, at].any()
    assert_close(both, 65)


@every_tile
def test_large_logits_do_not_overflow(run_both, normal, unwritten, function, option, value):
    arguments = make(normal, unwritten, 7, 65, option, value)
    arguments["logits_NV"] += 1024.0
    both = run_both("cross_entropy", function, arguments, OUT)
    # logits of 1024 are coarse, but both start from the same ones, and nothing adds 1024 again
    assert_close(both, 65)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_certain_target_costs_nothing_and_stays_finite(run_kernel, unwritten, gamma):
    logits_NV = np.zeros((1, 20), np.float32)
    logits_NV[0, 4] = 900
    arguments = {
        "logits_NV": logits_NV,
        "targets_N": np.array([4], np.int32),
        "weights_N": np.ones(1, np.float32),
        "losses_N": unwritten(1),
        "gamma": gamma,
        "gradient": True,
    }
    after, _ = run_kernel("cross_entropy", "focal_tile", arguments, OUT)
    assert after["losses_N"][0] == 0
    assert not after["logits_NV"].any()


# --------------------------------------------------------------------------- the pieces


@pytest.mark.parametrize("V", VOCABULARIES)
@pytest.mark.parametrize("N", ROWS)
def test_exp_sum(run_both, run_kernel, normal, unwritten, N, V):
    logits_NV = normal(0, N, V, size=2.0)
    arguments = {"logits_NV": logits_NV, "top_N": unwritten(N), "total_N": unwritten(N)}
    out = {"top_N", "total_N"}
    both = run_both("cross_entropy", "exp_sum", arguments, out)
    assert both.actual["top_N"].tolist() == logits_NV.max(axis=1).tolist()
    assert largest_error(both.actual["total_N"], both.expected["total_N"]) < tolerance(V)
    for n_threads in (1, 3):
        again, _ = run_kernel("cross_entropy", "exp_sum", arguments, out, n_threads)
        assert all(again[name].tobytes() == both.actual[name].tobytes() for name in out)


@pytest.mark.parametrize("V", VOCABULARIES)
@pytest.mark.parametrize("N", ROWS)
def test_softmax_gradient(run_both, run_kernel, normal, N, V):
    logits_NV = normal(0, N, V, size=2.0)
    targets_N = np.random.default_rng(3).integers(0, V, N).astype(np.int32)
    targets_N[1::3] = -100
    targets_N[6::7] = V  # outside: nothing is subtracted
    arguments = {
        "logits_NV": logits_NV,
        "top_N": logits_NV.max(axis=1),
        "total_N": np.exp(logits_NV - logits_NV.max(axis=1, keepdims=True)).sum(axis=1),
        "targets_N": targets_N,
        "coefficient_N": normal(1, N),
        "target_coefficient_N": normal(2, N),
    }
    both = run_both("cross_entropy", "softmax_gradient", arguments, {"logits_NV"})
    error = largest_error(both.actual["logits_NV"], both.expected["logits_NV"], 1.0)
    assert error < EXP_LOG
    for n_threads in (1, 3):
        again, _ = run_kernel(
            "cross_entropy", "softmax_gradient", arguments, {"logits_NV"}, n_threads
        )
        assert again["logits_NV"].tobytes() == both.actual["logits_NV"].tobytes()


@pytest.mark.parametrize("V", VOCABULARIES)
@pytest.mark.parametrize("N", ROWS)
def test_target_rank(run_both, run_kernel, normal, N, V):
    logits_NV = np.round(normal(0, N, V), 1)  # so that some are equal
    targets_N = np.random.default_rng(3).integers(0, V, N).astype(np.int32)
    targets_N[2::4] = -100
    logits_NV[3::5, V // 2] = np.nan
    arguments = {
        "logits_NV": logits_NV,
        "targets_N": targets_N,
        "ranks_N": np.full(N, -7, np.int32),
    }
    both = run_both("cross_entropy", "target_rank", arguments, {"ranks_N"})
    assert both.actual_code == both.expected_code == 0
    assert both.actual["ranks_N"].tolist() == both.expected["ranks_N"].tolist()
    for n_threads in (1, 3):
        again, _ = run_kernel("cross_entropy", "target_rank", arguments, {"ranks_N"}, n_threads)
        assert again["ranks_N"].tolist() == both.actual["ranks_N"].tolist()


@pytest.mark.parametrize("V", VOCABULARIES)
def test_every_place_of_a_row_has_its_rank(run_both, V):
    order = np.random.default_rng(1).permutation(V)
    logits_NV = np.tile(-order.astype(np.float32), (min(V, 200), 1))
    targets_N = np.arange(len(logits_NV), dtype=np.int32) + V - len(logits_NV)
    arguments = {
        "logits_NV": logits_NV,
        "targets_N": targets_N,
        "ranks_N": np.full(len(logits_NV), -7, np.int32),
    }
    both = run_both("cross_entropy", "target_rank", arguments, {"ranks_N"})
    assert both.actual["ranks_N"].tolist() == order[targets_N].tolist()


@pytest.mark.parametrize("bad", [-1, -101, 65])
def test_a_bad_target_has_no_rank(run_both, normal, bad):
    targets_N = np.array([1, 2, bad, bad], np.int32)
    arguments = {
        "logits_NV": normal(0, 4, 65),
        "targets_N": targets_N,
        "ranks_N": np.full(4, -7, np.int32),
    }
    both = run_both("cross_entropy", "target_rank", arguments, {"ranks_N"})
    assert both.actual_code == both.expected_code == 3
    assert both.actual["ranks_N"].tolist() == both.expected["ranks_N"].tolist() == [-7] * 4
