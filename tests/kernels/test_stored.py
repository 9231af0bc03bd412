"""Kernels on activations of two bytes, bfloat16 and float16, against their twins.

The twin gets the same stored values and computes in double precision, so what is compared is the
kernel's arithmetic and its rounding to the storage type.
"""

from __future__ import annotations

import numpy as np
import pytest
from packing import starts_of
from tolerances import STORED_EPS, dot_product, largest_error

from tisslm.ops.reference.activation import GELU, GELU_TANH, RELU2, SILU
from tisslm.ops.reference.storage import store, widen

TYPES = ["uint16", "float16"]
SHAPES = [
    (1, 1, 1),
    (12, 32, 64),
    (13, 33, 65),
    (65, 17, 7),
    (130, 100, 129),
    (24, 70, 800),
    (3, 40, 1701),
]


@pytest.fixture
def stored(normal):
    """``stored(dtype, seed, *shape, size=1.0)``: normal numbers, rounded to a storage type."""

    def make(dtype: str, seed: int, *shape: int, size: float = 1.0) -> np.ndarray:
        out = np.empty(shape, dtype)
        store(out, normal(seed, *shape, size=size))
        return out

    return make


def unset(dtype: str, *shape: int) -> np.ndarray:
    """NaN in a storage type, which the kernel must overwrite."""
    return np.full(shape, 0x7FC1, np.uint16) if dtype == "uint16" else np.full(shape, np.nan, dtype)


def error_of(both, name: str, scale: float = 0.0) -> float:
    actual, expected = widen(both.actual[name]), widen(both.expected[name])
    return largest_error(actual, expected.astype(np.float64), scale)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("N", "O", "C"), SHAPES)
def test_forward(run_both, normal, unwritten, stored, dtype, narrow, N, O, C):  # noqa: E741
    # the weights are rounded to bfloat16 where that is what the processor multiplies
    w = widen(stored(dtype, 1, O, C)).astype(np.float32)
    y = unset(dtype, N, O) if narrow else unwritten(N, O)
    for bias in (None, normal(2, O)):
        arguments = {"x_NC": stored(dtype, 0, N, C), "w_OC": w, "b_O": bias, "y_NO": y}
        both = run_both("linear", "linear_forward", arguments, {"y_NO"})
        assert error_of(both, "y_NO") < dot_product(C) + (STORED_EPS[dtype] if narrow else 0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "O", "C"), SHAPES)
def test_forward_of_a_stored_weight(run_both, normal, unwritten, stored, dtype, N, O, C):  # noqa: E741
    """Floats are not rounded because a weight is."""
    weights = {"w_OC": stored(dtype, 1, O, C), "b_O": normal(2, O)}
    arguments = {"x_NC": normal(0, N, C), **weights, "y_NO": unwritten(N, O)}
    both = run_both("linear", "linear_forward", arguments, {"y_NO"})
    assert error_of(both, "y_NO") < dot_product(C)
    arguments = {"x_NC": normal(0, N, C), **weights, "h_NO": normal(3, N, O)}
    both = run_both("linear", "linear_residual_forward", arguments, {"h_NO"})
    assert error_of(both, "h_NO") < dot_product(C)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "O", "C"), SHAPES)
def test_residual(run_both, normal, stored, dtype, N, O, C):  # noqa: E741
    w = widen(stored(dtype, 1, O, C)).astype(np.float32)
    for bias in (None, normal(2, O)):
        arguments = {
            "x_NC": stored(dtype, 0, N, C),
            "w_OC": w,
            "b_O": bias,
            "h_NO": normal(3, N, O),
        }
        both = run_both("linear", "linear_residual_forward", arguments, {"h_NO"})
        assert error_of(both, "h_NO") < dot_product(C)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "O", "C"), SHAPES)
@pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU, RELU2])
def test_activation_forward(run_both, normal, stored, dtype, N, O, C, code):  # noqa: E741
    arguments = {
        "x_NC": stored(dtype, 0, N, C),
        "w_OC": widen(stored(dtype, 1, O, C, size=2 * C**-0.5)).astype(np.float32),
        "b_O": normal(2, O),
        "y_NO": unset(dtype, N, O),
        "a_NO": unset(dtype, N, O),
        "activation": code,
    }
    both = run_both("linear", "linear_activation_forward", arguments, {"y_NO", "a_NO"})
    for name in ("y_NO", "a_NO"):  # the activation is that of the rounded value: 1.13 in slope
        assert error_of(both, name) < 2 * dot_product(C) + 2.2 * STORED_EPS[dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("N", "C", "O"), SHAPES)
def test_backward_input(run_both, unwritten, stored, dtype, narrow, N, C, O):  # noqa: E741
    arguments = {
        "dy_NO": stored(dtype, 0, N, O),
        "w_OC": widen(stored(dtype, 1, O, C)).astype(np.float32),
        "dx_NC": unset(dtype, N, C) if narrow else unwritten(N, C),
    }
    both = run_both("linear", "linear_backward_input", arguments, {"dx_NC"})
    assert error_of(both, "dx_NC") < dot_product(O) + (STORED_EPS[dtype] if narrow else 0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("N", "C", "O"), SHAPES)
def test_both_backward_products(run_both, normal, unwritten, stored, dtype, N, C, O):  # noqa: E741
    arguments = {
        "dy_NO": stored(dtype, 0, N, O),
        "w_OC": normal(1, O, C),
        "x_NC": stored(dtype, 2, N, C),
        "dx_NC": unset(dtype, N, C),
        "dw_OC": unwritten(O, C),
        "db_O": unwritten(O),
        "accumulate": False,
    }
    both = run_both("linear", "linear_backward", arguments, {"dx_NC", "dw_OC", "db_O"})
    if dtype == "float16":
        assert error_of(both, "dx_NC") < dot_product(O) + STORED_EPS[dtype]
    for name in ("dw_OC", "db_O"):
        assert error_of(both, name) < dot_product(N)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("O", "C", "N"), SHAPES)
def test_backward_weight(run_both, normal, unwritten, stored, dtype, accumulate, N, O, C):  # noqa: E741
    arguments = {
        "dy_NO": stored(dtype, 0, N, O),
        "x_NC": stored(dtype, 1, N, C),
        "dw_OC": normal(2, O, C) if accumulate else unwritten(O, C),
        "db_O": normal(3, O) if accumulate else unwritten(O),
        "accumulate": accumulate,
    }
    both = run_both("linear", "linear_backward_weight", arguments, {"dw_OC", "db_O"})
    for name in ("dw_OC", "db_O"):
        assert error_of(both, name) < dot_product(N)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("C", [1, 7, 16, 33, 384])
def test_layer_norm(run_both, normal, unwritten, stored, dtype, C):
    gamma, beta = 1 + normal(1, C, size=0.2), normal(2, C)
    arguments = {
        "h_NC": 1 + normal(0, 70, C, size=2.0),
        "gamma_C": gamma,
        "beta_C": beta,
        "x_NC": unset(dtype, 70, C),
        "y_NC": unset(dtype, 70, C),
        "mean_N": unwritten(70),
        "rstd_N": unwritten(70),
        "eps": 1e-5,
    }
    both = run_both("norm", "layer_norm_forward", arguments, {"x_NC", "y_NC", "mean_N", "rstd_N"})
    assert np.array_equal(both.actual["x_NC"], both.expected["x_NC"])
    assert error_of(both, "y_NC", scale=1.0) < STORED_EPS[dtype]
    for name in ("mean_N", "rstd_N") if C > 2 else ():
        assert error_of(both, name) < 1e-5
    again = {
        **{name: both.actual[name].copy() for name in ("x_NC", "mean_N", "rstd_N")},
        "gamma_C": gamma,
        "beta_C": beta,
        "y_NC": unset(dtype, 70, C),
    }
    second = run_both("norm", "layer_norm_apply", again, {"y_NC"})
    assert second.actual["y_NC"].tobytes() == both.actual["y_NC"].tobytes()
    back = {
        "dy_NC": normal(3, 70, C),
        **{name: both.actual[name].copy() for name in ("x_NC", "mean_N", "rstd_N")},
        "gamma_C": gamma,
        "dres_NC": normal(4, 70, C),
        "dx_NC": unwritten(70, C),
        "dgamma_C": unwritten(C),
        "dbeta_C": unwritten(C),
        "partial_2KC": unwritten(2, 2, C),
        "accumulate": False,
    }
    names = {"dx_NC", "dgamma_C", "dbeta_C"}
    third = run_both("norm", "layer_norm_backward", back, names | {"partial_2KC"})
    for name in names if C > 2 else ():
        assert error_of(third, name, scale=1.0) < 1e-5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("C", [1, 7, 16, 33, 384])
def test_rms_norm(run_both, normal, unwritten, stored, dtype, C):
    gamma = 1 + normal(1, C, size=0.2)
    arguments = {
        "h_NC": 1 + normal(0, 70, C, size=2.0),
        "gamma_C": gamma,
        "x_NC": unset(dtype, 70, C),
        "y_NC": unset(dtype, 70, C),
        "rstd_N": unwritten(70),
        "eps": 1e-5,
    }
    both = run_both("norm", "rms_norm_forward", arguments, {"x_NC", "y_NC", "rstd_N"})
    assert np.array_equal(both.actual["x_NC"], both.expected["x_NC"])
    assert error_of(both, "y_NC", scale=1.0) < STORED_EPS[dtype]
    kept = {name: both.actual[name].copy() for name in ("x_NC", "rstd_N")} | {"gamma_C": gamma}
    second = run_both("norm", "rms_norm_apply", {**kept, "y_NC": unset(dtype, 70, C)}, {"y_NC"})
    assert second.actual["y_NC"].tobytes() == both.actual["y_NC"].tobytes()
    back = {
        "dy_NC": normal(3, 70, C),
        **kept,
        "dres_NC": normal(4, 70, C),
        "dx_NC": unwritten(70, C),
        "dgamma_C": unwritten(C),
        "partial_KC": unwritten(2, C),
        "accumulate": False,
    }
    third = run_both("norm", "rms_norm_backward", back, {"dx_NC", "dgamma_C", "partial_KC"})
    for name in ("dx_NC", "dgamma_C"):
        assert error_of(third, name, scale=1.0) < 1e-5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU, RELU2])
def test_activation_backward(run_both, stored, dtype, code):
    arguments = {
        "x_NF": stored(dtype, 0, 9, 501, size=2.0),
        "dy_NF": stored(dtype, 1, 9, 501),
        "dx_NF": unset(dtype, 9, 501),
        "y_NF": unset(dtype, 9, 501),
        "activation": code,
    }
    both = run_both("activation", "activation_backward", arguments, {"dx_NF", "y_NF"})
    for name in ("dx_NF", "y_NF"):
        assert error_of(both, name) < STORED_EPS[dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU, RELU2])
@pytest.mark.parametrize("F", [1, 15, 16, 33, 501])
def test_gated(run_both, stored, dtype, code, F):
    pre = stored(dtype, 0, 9, 2 * F, size=2.0)
    arguments = {"pre_NG": pre, "act_NF": unset(dtype, 9, F), "activation": code}
    both = run_both("activation", "gated_forward", arguments, {"act_NF"})
    assert error_of(both, "act_NF") < STORED_EPS[dtype]
    arguments = {
        "pre_NG": pre,
        "dact_NF": stored(dtype, 1, 9, F),
        "dpre_NG": unset(dtype, 9, 2 * F),
        "act_NF": unset(dtype, 9, F),
        "activation": code,
    }
    back = run_both("activation", "gated_backward", arguments, {"dpre_NG", "act_NF"})
    assert error_of(back, "dpre_NG") < STORED_EPS[dtype]
    assert back.actual["act_NF"].tobytes() == both.actual["act_NF"].tobytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_dropout_and_residual(run_both, normal, stored, dtype, p):
    key = {"T": 5, "p": p, "seed": 7, "update": 3, "site": 2, "first_row": 1}
    arguments = {"dy_NC": normal(0, 10, 301), "dx_NC": unset(dtype, 10, 301), **key}
    both = run_both("dropout", "dropout_backward", arguments, {"dx_NC"})
    assert np.array_equal(both.actual["dx_NC"] == 0, both.expected["dx_NC"] == 0)
    assert error_of(both, "dx_NC") < STORED_EPS[dtype]
    arguments = {"h_NC": normal(0, 10, 301), "y_NC": stored(dtype, 1, 10, 301), **key}
    both = run_both("dropout", "residual_forward", arguments, {"h_NC"})
    assert error_of(both, "h_NC") < 1e-6


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("n_head", "n_kv_head"), [(2, 2), (4, 2)])
@pytest.mark.parametrize(("T", "D"), [(1, 2), (5, 7), (64, 16), (65, 20), (140, 64), (200, 33)])
@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize("documents", [False, True])
def test_attention(
    run_both, unwritten, stored, dkv_of, dtype, T, D, n_head, n_kv_head, p, documents
):
    B, wide, inner = 2, (n_head + 2 * n_kv_head) * D, n_head * D
    key = {"p": p, "seed": 7, "update": 3, "site": 2, "first_row": 1}
    rest = {"n_head": n_head, "n_kv_head": n_kv_head, "scale": D**-0.5, **key}
    rest["start_BT"], rest["stop_BT"] = starts_of(T, B, T) if documents else None, None
    qkv = stored(dtype, 0, B, T, wide)
    arguments = {
        "qkv_BTE": qkv,
        "out_BTC": unset(dtype, B, T, inner),
        "lse_BHT": unwritten(B, n_head, T),
        **rest,
    }
    both = run_both("attention", "attention_forward", arguments, {"out_BTC", "lse_BHT"})
    # probabilities are rounded before they are multiplied, and the result is, too
    assert error_of(both, "out_BTC") < 3 * STORED_EPS[dtype]
    assert error_of(both, "lse_BHT", scale=1.0) < 1e-5
    arguments = {
        "dout_BTC": stored(dtype, 1, B, T, inner),
        "qkv_BTE": qkv,
        "out_BTC": both.actual["out_BTC"].copy(),
        "lse_BHT": both.actual["lse_BHT"].copy(),
        "dqkv_BTE": unset(dtype, B, T, wide),
        **rest,
        "dkv_M2TD": dkv_of(B, T, n_head, n_kv_head, D),
    }
    both = run_both("attention", "attention_backward", arguments, {"dqkv_BTE", "dkv_M2TD"})
    # so are the scores' gradients, and rowsum(dP P) is taken from the rounded output
    assert error_of(both, "dqkv_BTE") < 5 * STORED_EPS[dtype]
