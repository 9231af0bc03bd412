"""The embedding's twin: look-up, its gradient, and ids out of range."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.ops.reference.embedding import embedding_backward, embedding_forward

V, C, SEQ = 5, 3, 6
TOKENS = np.array([[0, 3, 3, 1], [3, 4, 0, 0]], np.int32)  # token 2 never comes
B, T = TOKENS.shape


#: Documents of one and of three tokens; and one document.
START = np.array([[0, 1, 1, 1], [0, 0, 0, 0]], np.int32)
DOCUMENTS = pytest.mark.parametrize("start", [None, START], ids=["one document", "documents"])


def forward(token, position, tokens=TOKENS, start=None):
    h = np.full((tokens.size, C), np.nan)
    assert embedding_forward(tokens, token, position, h, start) == 0
    return h


def backward(dh, dtoken, dposition, accumulate_token=False, accumulate_position=False, start=None):
    order, first = np.empty(TOKENS.size, np.int32), np.empty(V + 1, np.int32)
    flags = (accumulate_token, accumulate_position)
    embedding_backward(TOKENS, dh, dtoken, dposition, order, first, *flags, start)


@DOCUMENTS
def test_forward_adds_the_rows_of_token_and_position(draw, start):
    token, position = draw(0, V, C), draw(1, SEQ, C)
    h = forward(token, position, start=start).reshape(B, T, C)
    for b in range(B):
        for t in range(T):
            place = t if start is None else t - start[b, t]
            assert np.array_equal(h[b, t], token[TOKENS[b, t]] + position[place])
    assert np.array_equal(forward(token, None), token[TOKENS.reshape(-1)])


@pytest.mark.parametrize(("place", "bad"), [(0, -1), (5, V), (7, 2**31 - 1)])
def test_a_bad_id_is_reported_by_its_place(draw, place, bad):
    tokens = TOKENS.copy()
    tokens.reshape(-1)[place:] = bad
    code = embedding_forward(tokens, draw(0, V, C), None, np.empty((B * T, C)), None)
    assert code == 1 + place


@DOCUMENTS
def test_backward_agrees_with_central_differences(check_gradient, draw, start):
    token, position, dh = draw(0, V, C), draw(1, SEQ, C), draw(2, B * T, C)
    dtoken, dposition = np.full((V, C), np.nan), np.full((SEQ, C), np.nan)
    backward(dh, dtoken, dposition, start=start)

    def objective():
        return float((forward(token, position, start=start) * dh).sum())

    check_gradient(objective, token, dtoken)
    check_gradient(objective, position, dposition)


def test_unused_tokens_and_positions_get_zeros_when_overwriting(draw):
    dtoken, dposition = np.full((V, C), np.nan), np.full((SEQ, C), np.nan)
    backward(draw(0, B * T, C), dtoken, dposition)
    assert not dtoken[2].any()
    assert not dposition[T:].any()


def test_gradients_accumulate_each_by_its_own_flag(draw):
    dh, token_start, position_start = draw(0, B * T, C), draw(1, V, C), draw(2, SEQ, C)
    once_token, once_position = np.empty((V, C)), np.empty((SEQ, C))
    backward(dh, once_token, once_position)
    for add_token in (False, True):
        dtoken, dposition = token_start.copy(), position_start.copy()
        backward(dh, dtoken, dposition, add_token, not add_token)
        assert np.allclose(dtoken, once_token + add_token * token_start)
        assert np.allclose(dposition, once_position + (not add_token) * position_start)
        if not add_token:
            assert np.array_equal(dposition[T:], position_start[T:])


def test_without_positions_only_tokens_get_a_gradient(draw):
    dh, dtoken, expected = draw(0, B * T, C), np.empty((V, C)), np.empty((V, C))
    backward(dh, expected, np.empty((SEQ, C)))
    backward(dh, dtoken, None)
    assert np.array_equal(dtoken, expected)
