"""The compiled embedding against its twin."""

from __future__ import annotations

import numpy as np
import pytest
from packing import starts_of
from tolerances import dot_product, largest_error

# batch, time, vocabulary, channels, rows of positions
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 13, 5, 17, 13),
    (3, 7, 65, 16, 9),
    (2, 65, 11, 33, 65),
    (5, 64, 300, 100, 80),
    (3, 43, 1, 15, 43),
]
FLAGS = [(False, False), (True, False), (False, True), (True, True)]


def tokens_of(B, T, V):
    ids = np.random.default_rng(0).integers(0, V, size=(B, T)).astype(np.int32)
    ids[0, -1] = V - 1  # the last row of the table is used
    return ids


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("with_position", [False, True])
@pytest.mark.parametrize(("B", "T", "V", "C", "S"), SHAPES)
def test_forward(run_both, normal, unwritten, B, T, V, C, S, with_position, documents):
    token, position = normal(0, V, C), normal(1, S, C)
    arguments = {
        "tokens_BT": tokens_of(B, T, V),
        "token_VC": token,
        "position_TC": position if with_position else None,
        "h_NC": unwritten(B * T, C),
        "start_BT": starts_of(0, B, T) if documents else None,
    }
    both = run_both("embedding", "embedding_forward", arguments, {"h_NC"})
    assert both.actual_code == both.expected_code == 0
    # one addition is rounded once, whoever makes it
    assert np.array_equal(both.actual["h_NC"], both.expected["h_NC"].astype(np.float32))


@pytest.mark.parametrize("bad", [-1, -(2**31), 65, 2**31 - 1])
@pytest.mark.parametrize("places", [[0], [20], [13, 5, 17]])
def test_the_first_bad_id_is_reported(run_both, normal, unwritten, bad, places):
    tokens = tokens_of(3, 7, 65)
    tokens.reshape(-1)[places] = bad
    arguments = {
        "tokens_BT": tokens,
        "token_VC": normal(0, 65, 16),
        "position_TC": normal(1, 7, 16),
        "h_NC": unwritten(21, 16),
        "start_BT": None,
    }
    for n_threads in (1, 3):
        both = run_both("embedding", "embedding_forward", arguments, {"h_NC"}, n_threads)
        assert both.actual_code == both.expected_code == 1 + min(places)


@pytest.mark.parametrize(("add_token", "add_position"), FLAGS)
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("with_position", [False, True])
@pytest.mark.parametrize(("B", "T", "V", "C", "S"), SHAPES)
def test_backward(
    run_both, normal, unwritten, B, T, V, C, S, with_position, documents, add_token, add_position
):
    dposition = normal(3, S, C) if add_position else unwritten(S, C)
    arguments = {
        "tokens_BT": tokens_of(B, T, V),
        "dh_NC": normal(1, B * T, C),
        "dtoken_VC": normal(2, V, C) if add_token else unwritten(V, C),
        "dposition_TC": dposition if with_position else None,
        "order_N": np.full(B * T, -7, np.int32),
        "first_V": np.full((max(V, T) if documents else V) + 1, -7, np.int32),
        "accumulate_token": add_token,
        "accumulate_position": add_position,
        "start_BT": starts_of(0, B, T) if documents else None,
    }
    out = {"dtoken_VC", "dposition_TC", "order_N", "first_V"}
    both = run_both("embedding", "embedding_backward", arguments, out)
    most = np.bincount(arguments["tokens_BT"].reshape(-1)).max()
    error = largest_error(both.actual["dtoken_VC"], both.expected["dtoken_VC"], np.sqrt(most))
    assert error < dot_product(most)
    if with_position:
        actual, expected = both.actual["dposition_TC"], both.expected["dposition_TC"]
        most = B * T if documents else B
        assert largest_error(actual, expected, np.sqrt(most)) < dot_product(most)
        assert np.array_equal(actual[T:], dposition[T:] if add_position else 0 * expected[T:])
