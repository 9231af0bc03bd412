"""The compiled matrix products against their twins, at every kind of edge."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import ACTIVATION, dot_product, largest_error

from tisslm import ops
from tisslm.ops.reference.activation import GELU, GELU_TANH, RELU2, SILU
from tisslm.ops.reference.storage import store

ROWS = [1, 11, 12, 13, 63, 64, 65, 129]
COLUMNS = [1, 15, 16, 17, 31, 32, 33, 65, 100, 384]
DEPTHS = [1, 7, 128, 257, 513, 1030]

# every pair of rows and columns, the depths in turn; and every depth around one tile of 12 x 32
SHAPES = [
    (m, n, DEPTHS[(i + j) % len(DEPTHS)]) for i, m in enumerate(ROWS) for j, n in enumerate(COLUMNS)
] + [(m, n, k) for m in (12, 13) for n in (32, 33) for k in DEPTHS]


@pytest.mark.parametrize(("N", "O", "C"), SHAPES)
def test_forward(run_both, normal, unwritten, N, O, C):  # noqa: E741
    for bias in (None, normal(2, O)):
        both = run_both(
            "linear",
            "linear_forward",
            {
                "x_NC": normal(0, N, C),
                "w_OC": normal(1, O, C),
                "b_O": bias,
                "y_NO": unwritten(N, O),
            },
            {"y_NO"},
        )
        assert largest_error(both.actual["y_NO"], both.expected["y_NO"]) < dot_product(C)


@pytest.mark.parametrize("dtype", ["float32", "uint16", "float16"])
@pytest.mark.parametrize("C", [1, 15, 16, 17, 63, 64, 65, 200, 1030])
@pytest.mark.parametrize("O", [1, 15, 16, 17, 63, 64, 65, 130])
def test_decode(run_both, normal, unwritten, dtype, O, C):  # noqa: E741
    w = np.empty((O, C), dtype)
    store(w, normal(1, O, C))
    for N, bias in [(1, None), (1, normal(2, O)), (2, None), (3, normal(2, O)), (9, None)]:
        arguments = {"x_NC": normal(0, N, C), "w_OC": w, "b_O": bias, "y_NO": unwritten(N, O)}
        both = run_both("linear", "linear_decode", arguments, {"y_NO"})
        assert largest_error(both.actual["y_NO"], both.expected["y_NO"]) < dot_product(C)


@pytest.mark.parametrize("dtype", ["float32", "uint16", "float16"])
@pytest.mark.parametrize(("O", "C"), [(70, 200), (17, 33), (300, 576)])
def test_decode_gives_a_row_the_bits_that_it_has_alone(
    run_kernel,
    normal,
    unwritten,
    dtype,
    O,  # noqa: E741
    C,
):
    w, x = np.empty((O, C), dtype), normal(0, 23, C)
    store(w, normal(1, O, C))

    def rows(own):
        y = unwritten(own.stop - own.start, O)
        arguments = {"x_NC": x[own], "w_OC": w, "b_O": normal(2, O), "y_NO": y}
        return run_kernel("linear", "linear_decode", arguments, {"y_NO"})[0]["y_NO"]

    alone = np.concatenate([rows(slice(n, n + 1)) for n in range(23)])
    for first, stop in [(0, 23), (0, 2), (3, 6), (5, 9), (8, 13), (1, 17)]:
        assert rows(slice(first, stop)).tobytes() == alone[first:stop].tobytes()


@pytest.mark.parametrize(("N", "O", "C"), SHAPES[::5])
@pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU, RELU2])
def test_activation_forward(run_both, normal, unwritten, N, O, C, code):  # noqa: E741
    for bias in (None, normal(2, O)):
        both = run_both(
            "linear",
            "linear_activation_forward",
            {
                "x_NC": normal(0, N, C),
                "w_OC": normal(1, O, C, size=2 * C**-0.5),
                "b_O": bias,
                "y_NO": unwritten(N, O),
                "a_NO": unwritten(N, O),
                "activation": code,
            },
            {"y_NO", "a_NO"},
        )
        for name in ("y_NO", "a_NO"):  # the slope of GELU is at most 1.13
            error = largest_error(both.actual[name], both.expected[name])
            assert error < 2 * dot_product(C) + ACTIVATION


@pytest.mark.parametrize(("N", "C", "O"), SHAPES)
def test_backward_input(run_both, normal, unwritten, N, C, O):  # noqa: E741
    both = run_both(
        "linear",
        "linear_backward_input",
        {"dy_NO": normal(0, N, O), "w_OC": normal(1, O, C), "dx_NC": unwritten(N, C)},
        {"dx_NC"},
    )
    assert largest_error(both.actual["dx_NC"], both.expected["dx_NC"]) < dot_product(O)


@pytest.mark.parametrize("n_threads", [1, 2, 16])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("N", "C", "O"), SHAPES)
def test_both_backward_products_have_the_bits_that_each_has(normal, N, C, O, biased, n_threads):  # noqa: E741
    dy, w, x = normal(0, N, O), normal(1, O, C), normal(2, N, C)
    dw, db = normal(3, O, C), normal(4, O) if biased else None
    once = [np.full((N, C), np.nan, np.float32), dw, db]
    twice = [np.full((N, C), np.nan, np.float32), dw.copy(), None if db is None else db.copy()]
    ops.set_threads(n_threads)
    ops.linear_backward(dy, w, x, *once, True)
    ops.linear_backward_input(dy, w, twice[0])
    ops.linear_backward_weight(dy, x, *twice[1:], True)
    assert all(np.array_equal(a, b) for a, b in zip(once, twice, strict=True) if a is not None)


@pytest.mark.skipif(
    ops.engine()["isa"] == "baseline", reason="products of SciPy's BLAS add in orders of its own"
)
@pytest.mark.parametrize("n_threads", [1, 16])
def test_parts_that_ask_for_their_next_block_have_the_bits_of_others(normal, n_threads):
    """Of k = 1700 both ways: a small C, and the same within one that is too large for it."""
    dy, x, w = normal(0, 1700, 70), normal(1, 1700, 250), normal(2, 45, 1700)
    few, many = np.empty((70, 45), np.float32), np.empty((70, 250), np.float32)
    y, all_y = np.empty((70, 45), np.float32), np.empty((250, 45), np.float32)
    rows = np.ascontiguousarray(x.T)
    ops.set_threads(1)
    ops.linear_backward_weight(dy, x, many, None, False)
    ops.linear_forward(rows, w, None, all_y)
    ops.set_threads(n_threads)
    ops.linear_backward_weight(dy, np.ascontiguousarray(x[:, :45]), few, None, False)
    ops.linear_forward(rows[:70], w, None, y)
    assert np.array_equal(few, many[:, :45])
    assert np.array_equal(y, all_y[:70])


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("O", "C", "N"), SHAPES)
def test_backward_weight(run_both, normal, unwritten, O, C, N, accumulate):  # noqa: E741
    start = normal if accumulate else (lambda _seed, *shape: unwritten(*shape))
    for db in (None, start(3, O)):
        both = run_both(
            "linear",
            "linear_backward_weight",
            {
                "dy_NO": normal(0, N, O),
                "x_NC": normal(1, N, C),
                "dw_OC": start(2, O, C),
                "db_O": db,
                "accumulate": accumulate,
            },
            {"dw_OC"} if db is None else {"dw_OC", "db_O"},
        )
        assert largest_error(both.actual["dw_OC"], both.expected["dw_OC"]) < dot_product(N)
        if db is not None:
            scale = np.sqrt(N)  # of a sum of N normal numbers, which may come out near zero
            error = largest_error(both.actual["db_O"], both.expected["db_O"], scale)
            assert error < dot_product(N)


@pytest.mark.parametrize("stored", ["float32", "uint16", "float16"])
@pytest.mark.parametrize(("N", "O"), [(3, 5), (13, 70)])
def test_a_product_of_nothing_is_written(run_kernel, normal, stored, N, O):  # noqa: E741
    """No inputs, or no rows: what is added up has no terms, and an array that was not zero is."""
    bias, y, nothing = normal(2, O), np.empty((N, O), stored), np.empty((N, 0), stored)
    store(y, np.full((N, O), np.nan, np.float32))
    arguments = {"x_NC": nothing, "w_OC": np.empty((O, 0), stored), "b_O": bias, "y_NO": y}
    after, _ = run_kernel("linear", "linear_forward", arguments, {"y_NO"})
    rounded = np.empty(O, stored)
    store(rounded, bias)
    assert np.array_equal(after["y_NO"], np.broadcast_to(rounded, (N, O)))

    for before, expected in [(np.nan, 0.0), (2.5, 2.5)]:
        arguments = {
            "dy_NO": np.empty((0, O), stored),
            "x_NC": np.empty((0, N), stored),
            "dw_OC": np.full((O, N), before, np.float32),
            "db_O": np.full(O, before, np.float32),
            "accumulate": expected != 0.0,
        }
        after, _ = run_kernel("linear", "linear_backward_weight", arguments, {"dw_OC", "db_O"})
        assert np.array_equal(after["dw_OC"], np.full((O, N), expected))
        assert np.array_equal(after["db_O"], np.full(O, expected))


@pytest.mark.parametrize(("M", "N", "K"), SHAPES)
def test_matmul(run_both, normal, unwritten, M, N, K):
    both = run_both(
        "linear",
        "matmul",
        {"a_MK": normal(0, M, K), "b_KN": normal(1, K, N), "c_MN": unwritten(M, N)},
        {"c_MN"},
    )
    assert largest_error(both.actual["c_MN"], both.expected["c_MN"]) < dot_product(K)


def test_nan_reaches_its_row_and_no_other(run_kernel, normal, unwritten):
    x = normal(0, 20, 40)
    x[7, 13] = np.nan
    arguments = {"x_NC": x, "w_OC": normal(1, 50, 40), "b_O": None, "y_NO": unwritten(20, 50)}
    after, _ = run_kernel("linear", "linear_forward", arguments, {"y_NO"})
    is_nan = np.isnan(after["y_NO"])
    assert is_nan[7].all()
    assert not np.delete(is_nan, 7, axis=0).any()
