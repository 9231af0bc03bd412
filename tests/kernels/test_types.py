"""Kernels refuse arrays of types that they would take for others, and say what came."""

from __future__ import annotations

import numpy as np
import pytest

STREAM = {"p": 0.0, "seed": 1, "update": 0, "site": 0, "first_row": 0}
HEADS = {"n_head": 2, "n_kv_head": 2}
ROWS = {"x_NF": (6, 8), "dy_NF": (6, 8), "dx_NF": (6, 8), "y_NF": (6, 8)}
GATED = {"pre_NG": (6, 16), "dact_NF": (6, 8), "dpre_NG": (6, 16), "act_NF": (6, 8)}
HEAD = {"gamma_q": (4,), "gamma_k": (4,), "rstd_NU": (6, 4)}
NORM = {"gamma_C": (8,), "y_NC": (6, 8), "rstd_N": (6,), "x_NC": (6, 8)}
QKV = {"qkv_BTE": (2, 3, 24), "out_BTC": (2, 3, 8), "lse_BHT": (2, 2, 3)}
ATTENTION = {**HEADS, **STREAM, "scale": 0.5, "start_BT": None, "stop_BT": None}
LINEAR = {"x_NC": (6, 8), "w_OC": (5, 8), "y_NO": (6, 5), "a_NO": (6, 5)}
BACK = {"dout_BTE": (2, 3, 24), "qkv_BTE": (2, 3, 24), "dqkv_BTE": (2, 3, 24)}
SUMS = {"dgamma_q": (4,), "dgamma_k": (4,), "partial_KW": (1, 8)}
TABLES = {"cos_PR": (3, 2), "sin_PR": (3, 2)}
TURNED = {**TABLES, **HEADS, "position": 0, "start_BT": None}
LAYER = {**NORM, "beta_C": (8,), "mean_N": (6,)}

#: Arguments of functions, shapes of arrays among them, and those that have to be of one type.
ALIKE = {
    "activation:activation_forward": (
        {"x_NF": (6, 8), "y_NF": (6, 8), "activation": 0},
        ["x_NF", "y_NF"],
    ),
    "activation:activation_backward": ({**ROWS, "activation": 0}, ROWS),
    "activation:gated_forward": (
        {"pre_NG": (6, 16), "act_NF": (6, 8), "activation": 2},
        ["pre_NG", "act_NF"],
    ),
    "activation:gated_backward": ({**GATED, "activation": 2}, GATED),
    "attention:attention_forward": ({**QKV, **ATTENTION}, ["qkv_BTE", "out_BTC"]),
    "attention:attention_backward": (
        {**QKV, **ATTENTION, "dout_BTC": (2, 3, 8), "dqkv_BTE": (2, 3, 24), "dkv_M2TD": None},
        ["dout_BTC", "qkv_BTE", "out_BTC", "dqkv_BTE"],
    ),
    "head_norm:head_norm_forward": (
        {"qkv_BTE": (2, 3, 24), "out_BTE": (2, 3, 24), **HEAD, **HEADS, "eps": 1e-5},
        ["qkv_BTE", "out_BTE"],
    ),
    "head_norm:head_norm_backward": ({**BACK, **HEAD, **SUMS, **HEADS, "accumulate": False}, BACK),
    "linear:linear_activation_forward": (
        {**LINEAR, "b_O": None, "activation": 0},
        ["y_NO", "a_NO"],
    ),
    "norm:layer_norm_forward": ({**LAYER, "h_NC": (6, 8), "eps": 1e-5}, ["x_NC", "y_NC"]),
    "norm:layer_norm_apply": (LAYER, ["x_NC", "y_NC"]),
    "norm:rms_norm_forward": ({**NORM, "h_NC": (6, 8), "eps": 1e-5}, ["x_NC", "y_NC"]),
    "norm:rms_norm_apply": (NORM, ["x_NC", "y_NC"]),
    "rotary:rotary_forward": (
        {"qkv_BTE": (2, 3, 24), "out_BTE": (2, 3, 24), **TURNED},
        ["qkv_BTE", "out_BTE"],
    ),
    "rotary:rotary_backward": (
        {"dout_BTE": (2, 3, 24), "dqkv_BTE": (2, 3, 24), **TURNED},
        ["dout_BTE", "dqkv_BTE"],
    ),
}


def arrays(arguments):
    """Make arrays where there are shapes."""
    return {
        name: np.zeros(value, np.float32) if isinstance(value, tuple) else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("function", ALIKE)
def test_arrays_that_are_taken_for_one_type_are_of_one_type(run_kernel, function):
    arguments, alike = ALIKE[function]
    for name in alike:
        given = arrays(arguments)
        written = {n for n, value in given.items() if isinstance(value, np.ndarray)}
        given[name] = given[name].astype(np.float16)
        with pytest.raises(ValueError, match="expected arrays of one type, got two"):
            run_kernel(*function.split(":"), given, written)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("qkv_BTE", np.zeros((2, 3, 24)), "expected float32, .* bfloat16, got float64"),
        ("qkv_BTE", np.zeros((2, 3, 24), np.int32), "expected float32, .* bfloat16, got int32"),
        ("qkv_BTE", np.zeros((6, 24), np.float32), "expected 3 dimensions, got 2"),
        ("start_BT", np.zeros((2, 3), np.int64), "expected int32, got int64"),
        ("start_BT", np.zeros((2, 3), np.float32), "expected int32, got float32"),
        ("start_BT", np.zeros(6, np.int32), "expected 2 dimensions, got 1"),
    ],
)
def test_a_refused_array_is_told_by_what_is_wrong_with_it(run_kernel, name, given, message):
    arguments = arrays(ALIKE["rotary:rotary_forward"][0]) | {name: given}
    with pytest.raises(ValueError, match=message):
        run_kernel("rotary", "rotary_forward", arguments, {"out_BTE"})
