"""The twins of rotary positions: what a rotation keeps, what it does not touch, its gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import starts_of, starts_of_lengths
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.rotary import rotary_backward, rotary_forward

H, K, D, R = 4, 2, 10, 3
TURNED = (H + K) * D


def tables(n_positions, r=R):
    angles = np.arange(n_positions)[:, None] * (0.7 ** np.arange(r))
    return np.cos(angles), np.sin(angles)


def forward(qkv, start=None, position=0):
    cos, sin = tables(position + qkv.shape[1])
    out = np.full_like(qkv, np.nan)
    rotary_forward(qkv, cos, sin, out, H, K, position, start)
    return out


def test_pairs_are_turned_as_complex_numbers_are(draw):
    """Channel i is the real part and channel i + R the imaginary one."""
    qkv = draw(0, 2, 5, (H + 2 * K) * D)
    found = forward(qkv, position=3)[:, :, :TURNED].reshape(2, 5, H + K, D)
    x = qkv[:, :, :TURNED].reshape(2, 5, H + K, D)
    cos, sin = tables(8)
    turn = (cos + 1j * sin)[3:, None]
    expected = (x[..., :R] + 1j * x[..., R : 2 * R]) * turn
    assert largest_error(found[..., :R], expected.real) < FLOAT64_ROUNDING
    assert largest_error(found[..., R : 2 * R], expected.imag) < FLOAT64_ROUNDING


def test_other_channels_and_values_are_copied(draw):
    qkv = draw(0, 2, 5, (H + 2 * K) * D)
    found = forward(qkv, position=3)
    assert np.array_equal(found[:, :, TURNED:], qkv[:, :, TURNED:])
    heads, before = (x[:, :, :TURNED].reshape(2, 5, -1, D) for x in (found, qkv))
    assert np.array_equal(heads[..., 2 * R :], before[..., 2 * R :])


def test_a_score_depends_on_the_distance_alone(draw):
    """That is what the rotation is for: equal q and k everywhere give scores of t - s."""
    one = draw(0, 1, 1, (H + 2 * K) * D)
    turned = forward(np.repeat(one, 9, axis=1))[0, :, :TURNED].reshape(9, H + K, D)
    scores = np.einsum("td,sd->ts", turned[:, 0], turned[:, H])
    for distance in range(9):
        band = np.diagonal(scores, -distance)
        assert np.ptp(band) < FLOAT64_ROUNDING * np.abs(scores).max()
    assert np.ptp(scores[-1]) > 0.1


def test_positions_count_from_the_beginning_of_a_document(draw):
    start = starts_of_lengths([1, 4, 3])[None]
    qkv = draw(0, 1, 8, (H + 2 * K) * D)
    together = forward(qkv, start, position=2)
    for begin, end in ((0, 1), (1, 5), (5, 8)):
        assert np.array_equal(together[:, begin:end], forward(qkv[:, begin:end], position=2))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    T=st.integers(1, 5),
    position=st.integers(0, 3),
    documents=st.booleans(),
    seed=st.integers(0, 99),
)
def test_backward_agrees_with_central_differences(
    check_gradient, draw, T, position, documents, seed
):
    qkv, dout = draw(seed, 2, T, (H + 2 * K) * D), draw(seed + 1, 2, T, (H + 2 * K) * D)
    start = starts_of(seed, 2, T) if documents else None
    dqkv = np.full_like(qkv, np.nan)
    rotary_backward(dout, *tables(position + T), dqkv, H, K, position, start)
    check_gradient(lambda: float((forward(qkv, start, position) * dout).sum()), qkv, dqkv)


@pytest.mark.parametrize("function", [rotary_forward, rotary_backward])
def test_the_result_may_be_the_input(draw, function):
    qkv, rest = draw(0, 2, 5, (H + 2 * K) * D), (H, K, 1, starts_of(3, 2, 5))
    out = np.full_like(qkv, np.nan)
    function(qkv, *tables(6), out, *rest)
    function(qkv, *tables(6), qkv, *rest)
    assert np.array_equal(qkv, out)
