"""How much work a call is."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import ops
from tisslm.ops import cost


def test_traffic_counts_what_is_read_and_written_twice():
    h, y = np.zeros((4, 8), np.float32), np.zeros((4, 8), np.float32)
    assert cost.nbytes("residual_forward", {"h_NC": h, "y_NC": y, "T": 4}) == 3 * h.nbytes
    in_place = {"dy_NC": h, "dx_NC": h, "T": 4}
    assert cost.nbytes("dropout_backward", in_place) == 2 * h.nbytes
    gathered = {"tokens_BT": np.array([[1, 1, 2, 1]], np.int32), "token_VC": np.zeros((99, 8))}
    assert cost.nbytes("embedding_forward", gathered) == 4 * 4 + 2 * 8 * 8


@pytest.mark.parametrize("name", ["linear_forward", "linear_residual_forward"])
def test_a_product_counts_two_operations_for_each_multiply_add(name):
    x, w, y = np.zeros((5, 3)), np.zeros((7, 3)), np.zeros((5, 7))
    assert cost.flops(name, cost.named(name, (x, w, None, y))) == 2 * 5 * 3 * 7
    arguments = cost.named("matmul", (np.zeros((5, 3)), np.zeros((3, 7)), y))
    assert cost.flops("matmul", arguments) == 2 * 5 * 3 * 7


def test_attention_counts_its_causal_half():
    arguments = {"out_BTC": np.zeros((2, 8, 16))}
    pairs_half = 2 * 8 * 8 * 16 / 2
    assert cost.flops("attention_forward", arguments) == 2 * 2 * pairs_half
    assert cost.flops("attention_backward", arguments) == 4 * 2 * pairs_half


@pytest.mark.parametrize("name", ["attention_forward", "attention_backward"])
@pytest.mark.parametrize("window", [1, 3, 8, 9])
def test_attention_counts_the_pairs_that_documents_and_windows_leave(name, window):
    documents = np.array([[0] * 8, [0, 0, 0, 3, 3, 3, 6, 6]])
    start = np.maximum(documents, np.arange(8) - window + 1).astype(np.int32)
    arguments = {"out_BTC": np.zeros((2, 8, 16)), "start_BT": start}
    pairs = sum(t - int(first) + 0.5 for row in start for t, first in enumerate(row))
    passes = {"attention_forward": 2, "attention_backward": 4}[name]
    assert cost.flops(name, arguments) == 2 * passes * pairs * 16
    ends = np.array([[8] * 8, [3, 3, 3, 6, 6, 6, 8, 8]], np.int32)
    pairs = int((np.minimum(ends, np.arange(8) + window) - start).sum())
    both = {**arguments, "stop_BT": np.minimum(ends, np.arange(8) + window).astype(np.int32)}
    assert cost.flops(name, both) == 2 * passes * pairs * 16
    arguments["start_BT"] = np.zeros((2, 8), np.int32)
    assert cost.flops(name, arguments) == cost.flops(name, {**arguments, "start_BT": None})


def test_every_operation_of_ops_belongs_to_a_part():
    names = set(cost.operations())
    assert {"linear_forward", "matmul", "adam_update", "fill"} <= names
    assert cost.operations()["linear_forward"] is ops.linear_forward
    assert {name for name in names if cost.part_of(name) == cost.OTHER} == set()


def test_shapes_are_said_with_types_that_are_not_float32():
    arguments = {
        "x_NC": np.zeros((2, 3), np.float32),
        "b_O": None,
        "tokens_BT": np.zeros((1, 4), np.int32),
        "T": 4,
    }
    assert cost.shapes(arguments) == "x_NC 2x3, tokens_BT 1x4 int32"


def test_what_is_added_to_is_counted_twice_where_the_flag_is_true():
    x, dw = np.zeros((5, 3), np.float32), np.zeros((7, 3), np.float32)
    dy = np.zeros((5, 7), np.float32)
    for accumulate, times in ((False, 1), (True, 2)):
        arguments = cost.named("linear_backward_weight", (dy, x, dw, None, accumulate))
        assert cost.nbytes("linear_backward_weight", arguments) == (
            dy.nbytes + x.nbytes + times * dw.nbytes
        )
