"""The compiled gated activations against their twins."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import ACTIVATION, ACTIVATION_SLOPE

from tisslm.ops.reference.activation import GELU, GELU_TANH, RELU2, SILU

NAMES = {GELU: "exact", GELU_TANH: "tanh", SILU: "silu", RELU2: "relu2"}
CODES = pytest.mark.parametrize("code", NAMES, ids=NAMES.values())
SHAPES = [(1, 1), (1, 15), (3, 16), (13, 17), (65, 100), (129, 384)]


def inputs(normal, N, F, code):
    pre = normal(0, N, 2 * F, size=4.0)
    return {"pre_NG": pre, "activation": code}


def gates_and_ups(arguments):
    return np.split(np.abs(arguments["pre_NG"]).astype(np.float64), 2, axis=1)


@CODES
@pytest.mark.parametrize(("N", "F"), SHAPES)
def test_forward(run_both, normal, unwritten, N, F, code):
    arguments = {**inputs(normal, N, F, code), "act_NF": unwritten(N, F)}
    both = run_both("activation", "gated_forward", arguments, {"act_NF"})
    gate, up = gates_and_ups(arguments)
    size = np.maximum(gate * up, np.abs(both.expected["act_NF"]))
    assert (np.abs(both.actual["act_NF"] - both.expected["act_NF"]) <= 2 * ACTIVATION * size).all()


@CODES
@pytest.mark.parametrize("again", ["no", "apart", "in place"])
@pytest.mark.parametrize(("N", "F"), SHAPES)
def test_backward(run_both, normal, unwritten, N, F, code, again):
    dact = normal(1, N, F)
    act = {"no": None, "apart": unwritten(N, F), "in place": dact.copy()}[again]
    arguments = {
        **inputs(normal, N, F, code),
        "dact_NF": act if again == "in place" else dact,
        "dpre_NG": unwritten(N, 2 * F),
        "act_NF": act,
    }
    both = run_both("activation", "gated_backward", arguments, {"dpre_NG", "act_NF"})
    gate, up = gates_and_ups(arguments)
    terms = np.tile(np.abs(dact), 2) * np.concatenate([up, gate], axis=1)
    size = np.maximum(terms, np.abs(both.expected["dpre_NG"]))
    difference = np.abs(both.actual["dpre_NG"] - both.expected["dpre_NG"])
    assert (difference <= 2 * ACTIVATION_SLOPE * size).all()
    if act is not None:
        forward = {**inputs(normal, N, F, code), "act_NF": unwritten(N, F)}
        once = run_both("activation", "gated_forward", forward, {"act_NF"})
        assert both.actual["act_NF"].tobytes() == once.actual["act_NF"].tobytes()


@pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU])
def test_far_gates_stay_finite_and_nan_stays_nan(run_kernel, unwritten, code):
    gate = np.array([-3e38, -1e6, -90, 90, 1e6, np.nan], np.float32)
    up = np.full(6, 2, np.float32)
    pre = np.concatenate([gate, up])[None]
    arguments = {
        "pre_NG": pre,
        "dact_NF": np.ones((1, 6), np.float32),
        "dpre_NG": unwritten(1, 12),
        "act_NF": unwritten(1, 6),
        "activation": code,
    }
    after, _ = run_kernel("activation", "gated_backward", arguments, {"dpre_NG", "act_NF"})
    dgate, dup = np.split(after["dpre_NG"][0], 2)
    assert np.allclose(dgate[:5], [0, 0, 0, 2, 2], atol=1e-20)
    assert np.allclose(dup[:5], [0, 0, 0, 90, 1e6], atol=1e-20)
    assert np.allclose(after["act_NF"][0, :5], [0, 0, 0, 180, 2e6], atol=1e-20)
    assert np.isnan([dgate[5], dup[5], after["act_NF"][0, 5]]).all()


@CODES
def test_rows_are_independent_to_the_bit(run_kernel, normal, unwritten, code):
    arguments = {**inputs(normal, 9, 33, code), "act_NF": unwritten(9, 33)}
    whole, _ = run_kernel("activation", "gated_forward", arguments, {"act_NF"})
    one = {**arguments, "pre_NG": arguments["pre_NG"][4:5].copy(), "act_NF": unwritten(1, 33)}
    alone, _ = run_kernel("activation", "gated_forward", one, {"act_NF"})
    assert alone["act_NF"].tobytes() == whole["act_NF"][4:5].tobytes()
