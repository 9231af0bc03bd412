"""Products with some columns of wider rows, and products without one of their results."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import STORED_EPS, dot_product, largest_error

from tisslm.ops.reference.storage import store, widen

TYPES = ["float32", "uint16", "float16"]
SHAPES = [(1, 1, 1), (13, 33, 8), (65, 17, 7), (131, 100, 16), (24, 70, 800)]
FIRST, REST = 5, 3  # columns before and behind


@pytest.fixture
def stored(normal):
    """``stored(dtype, seed, *shape)``: normal numbers, rounded to a storage type."""

    def make(dtype: str, seed: int, *shape: int) -> np.ndarray:
        out = np.empty(shape, dtype)
        store(out, normal(seed, *shape))
        return out

    return make


def check(both, name: str, dtype: str, depth: int) -> None:
    actual, expected = (widen(a[name]).astype(np.float64) for a in (both.actual, both.expected))
    assert largest_error(actual, expected) < dot_product(depth) + STORED_EPS.get(dtype, 0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "O", "R"), SHAPES)
def test_what_is_added_to_columns(run_both, normal, stored, dtype, N, O, R):  # noqa: E741
    y = stored(dtype, 0, N, FIRST + O + REST)
    arguments = {"x_NC": normal(1, N, R), "w_OC": normal(2, O, R), "y_NE": y, "first": FIRST}
    both = run_both("linear", "linear_add_columns", arguments, {"y_NE"})
    check(both, "y_NE", dtype, R)
    outside = np.r_[:FIRST, FIRST + O : FIRST + O + REST]
    assert both.actual["y_NE"][:, outside].tobytes() == y[:, outside].tobytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "O", "R"), SHAPES)
def test_gradients_by_columns(run_both, normal, unwritten, stored, dtype, N, O, R):  # noqa: E741
    dy = {"dy_NE": stored(dtype, 0, N, FIRST + O + REST), "first": FIRST}
    w = widen(stored("uint16", 2, O, R)).astype(np.float32)  # a product of bfloat16 rounds it
    arguments = {**dy, "w_OC": w, "dx_NC": unwritten(N, R)}
    both = run_both("linear", "linear_columns_backward_input", arguments, {"dx_NC"})
    check(both, "dx_NC", "float32", O)
    x = widen(stored("uint16", 1, N, R)).astype(np.float32)
    for accumulate in (False, True):
        start = normal(3, O, R) if accumulate else unwritten(O, R)
        arguments = {**dy, "x_NC": x, "dw_OC": start, "accumulate": accumulate}
        both = run_both("linear", "linear_columns_backward_weight", arguments, {"dw_OC"})
        check(both, "dw_OC", "float32", N)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "C", "R"), SHAPES)
def test_what_is_added_to_the_gradient_by_the_input(run_both, normal, stored, dtype, N, C, R):
    arguments = {"dy_NO": normal(0, N, R), "w_OC": normal(1, R, C), "dx_NC": stored(dtype, 2, N, C)}
    both = run_both("linear", "linear_add_backward_input", arguments, {"dx_NC"})
    check(both, "dx_NC", dtype, R)


@pytest.mark.parametrize("accumulate", [False, True])
def test_the_gradient_of_a_bias_alone(run_both, normal, accumulate):
    arguments = {"dy_NO": normal(0, 131, 70), "x_NC": normal(1, 131, 20), "dw_OC": None}
    arguments |= {"db_O": normal(2, 70), "accumulate": accumulate}
    both = run_both("linear", "linear_backward_weight", arguments, {"db_O"})
    error = largest_error(both.actual["db_O"], both.expected["db_O"], np.sqrt(131))
    assert error < dot_product(131)


def test_norms_without_gradients_of_their_own(run_both, normal, unwritten):
    N, C = 131, 40
    given = {"dy_NC": normal(0, N, C), "x_NC": normal(1, N, C), "gamma_C": normal(2, C)}
    rstd, dx = {"rstd_N": abs(normal(3, N))}, {"dres_NC": None, "dx_NC": unwritten(N, C)}
    rms = {**given, **rstd, **dx, "dgamma_C": None, "partial_KC": unwritten(3, C)}
    both = run_both(
        "norm", "rms_norm_backward", {**rms, "accumulate": False}, {"dx_NC", "partial_KC"}
    )
    check(both, "dx_NC", "float32", C)
    mean = {"mean_N": normal(4, N), **rstd}
    for dbeta in (None, normal(5, C)):
        layer = {**given, **mean, **dx, "dgamma_C": None, "dbeta_C": dbeta}
        layer |= {"partial_2KC": np.zeros((2, 3, C), np.float32), "accumulate": True}
        out = {"dx_NC", "partial_2KC"} | ({"dbeta_C"} if dbeta is not None else set())
        both = run_both("norm", "layer_norm_backward", layer, out)
        check(both, "dx_NC", "float32", C)
        if dbeta is not None:
            check(both, "dbeta_C", "float32", N)


def test_rows_of_a_table_in_two_bytes(run_both, stored, unwritten):
    tokens = np.random.default_rng(0).integers(0, 9, (2, 7), np.int32)
    arguments = {"tokens_BT": tokens, "token_VC": stored("uint16", 0, 9, 19), "position_TC": None}
    arguments |= {"h_NC": unwritten(14, 19), "start_BT": None}
    both = run_both("embedding", "embedding_forward", arguments, {"h_NC"})
    assert both.actual["h_NC"].tobytes() == both.expected["h_NC"].astype(np.float32).tobytes()
