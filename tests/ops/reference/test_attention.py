"""Attention's twin: the definition written out per head, causality, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.attention import attention_backward, attention_decode, attention_forward
from tisslm.ops.reference.dropout import keep_mask

B, T, D = 2, 5, 3
SCALE = 1 / math.sqrt(D)
KEY = (11, 7, 3, 40)  # seed, update, site, first_row
HEADS = pytest.mark.parametrize(("H", "K"), [(1, 1), (3, 3), (4, 2), (3, 1)])


def inputs(draw, H, K, n_time=T):
    # scores between about -6 and 6: probabilities far from uniform, and none that vanish
    return draw(0, B, n_time, (H + 2 * K) * D, size=1.5)


def forward(qkv, H, K, p=0.0, start=None, stop=None):
    n_time = qkv.shape[1]
    out = np.full((B, n_time, H * D), np.nan)
    lse = np.full((B, H, n_time), np.nan)
    attention_forward(qkv, out, lse, H, K, SCALE, p, *KEY, start, stop)
    return out, lse


def by_definition(qkv, H, K, p, start=None, stop=None):
    """One head, one query at a time; yields sample, head, query, probabilities, lse, output."""
    n_time = qkv.shape[1]
    keep_of_key = keep_mask(B, H * n_time * n_time, p, *KEY).reshape(B, H, n_time, n_time)
    for b in range(B):
        for h in range(H):
            j = h // (H // K)
            q = qkv[b, :, h * D : (h + 1) * D]
            k = qkv[b, :, (H + j) * D : (H + j + 1) * D]
            v = qkv[b, :, (H + K + j) * D : (H + K + j + 1) * D]
            for t in range(n_time):
                first = 0 if start is None else start[b, t]
                seen = range(first, t + 1 if stop is None else stop[b, t])
                terms = [math.exp(SCALE * float(q[t] @ k[s])) for s in seen]
                prob = np.array(terms) / sum(terms)
                dropped = prob * keep_of_key[b, h, seen, t] / (1 - p)
                yield b, h, t, prob, math.log(sum(terms)), dropped @ v[seen]


#: Two documents in the first row; in the second, one of one token and two of two.
START = np.array([[0, 0, 0, 3, 3], [0, 1, 1, 3, 3]], np.int32)
STOP = np.array([[3, 3, 3, 5, 5], [1, 3, 3, 5, 5]], np.int32)
#: Tokens that see a little to both sides, also beyond what sees them.
NEAR = (np.array([[0, 0, 1, 1, 3]] * 2, np.int32), np.array([[2, 4, 4, 5, 5]] * 2, np.int32))
DOCUMENTS = pytest.mark.parametrize(
    ("start", "stop"),
    [(None, None), (START, None), (None, np.full_like(STOP, T)), (START, STOP), NEAR],
    ids=["one document", "documents", "both ways", "documents, both ways", "near, both ways"],
)


@HEADS
@DOCUMENTS
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_forward_is_the_definition(draw, H, K, p, start, stop):
    qkv = inputs(draw, H, K)
    out, lse = forward(qkv, H, K, p, start, stop)
    largest = []
    for b, h, t, prob, expected_lse, expected in by_definition(qkv, H, K, p, start, stop):
        assert lse[b, h, t] == pytest.approx(expected_lse, rel=FLOAT64_ROUNDING)
        assert out[b, t, h * D : (h + 1) * D] == pytest.approx(expected, rel=1e-10, abs=1e-12)
        if t == T - 1:
            largest.append(prob.max())
    spread = start is not None or 1.5 / T < np.mean(largest) < 0.98
    assert spread, "probabilities without spread hide errors"


def test_a_later_token_changes_nothing_earlier(draw):
    H, K = 4, 2
    qkv = inputs(draw, H, K)
    out, lse = forward(qkv, H, K, 0.4)
    for t in range(1, T):
        changed = qkv.copy()
        changed[:, t:] += 1
        other_out, other_lse = forward(changed, H, K, 0.4)
        assert np.array_equal(other_out[:, :t], out[:, :t])
        assert np.array_equal(other_lse[:, :, :t], lse[:, :, :t])
        assert not np.array_equal(other_out[:, t], out[:, t])


def test_large_scores_do_not_overflow(draw):
    out, lse = forward(1000 * inputs(draw, 2, 2), 2, 2)
    assert np.isfinite(out).all()
    assert np.isfinite(lse).all()


@HEADS
@DOCUMENTS
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_backward_agrees_with_central_differences(check_gradient, draw, H, K, p, start, stop):
    n_time = 4
    start = None if start is None else start[:, :n_time]
    stop = None if stop is None else np.minimum(stop[:, :n_time], n_time)
    qkv, dout = inputs(draw, H, K, n_time), draw(1, B, n_time, H * D)
    out, lse = forward(qkv, H, K, p, start, stop)
    dqkv = np.full_like(qkv, np.nan)
    attention_backward(dout, qkv, out, lse, dqkv, H, K, SCALE, p, *KEY, start, stop, None)
    assert all(np.abs(part).max() > 0.05 for part in np.split(dqkv, [H * D, (H + K) * D], axis=2))

    def objective():
        return float((forward(qkv, H, K, p, start, stop)[0] * dout).sum())

    check_gradient(objective, qkv, dqkv)


def passes(qkv, dout, start, stop=None):
    """Return outputs, log-sums and gradients of some rows, with 4 heads that share 2."""
    rows, time, _ = qkv.shape
    out, lse, dqkv = np.empty_like(dout), np.empty((rows, 4, time)), np.empty_like(qkv)
    rest = (4, 2, SCALE, 0.0, *KEY, start, stop)
    attention_forward(qkv, out, lse, *rest)
    attention_backward(dout, qkv, out, lse, dqkv, *rest, None)
    return out, lse.swapaxes(1, 2), dqkv


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5), window=st.integers(1, 80))
def test_a_document_has_the_bits_that_it_has_alone(draw, lengths, window):
    """Also where its tokens see a window; the first row is other documents in another order."""
    ends = np.cumsum(lengths)
    first_T = np.repeat(ends - lengths, lengths)
    start = np.stack(
        [np.zeros_like(first_T), np.maximum(first_T, np.arange(ends[-1]) - window + 1)]
    )
    qkv, dout = draw(0, 2, ends[-1], 8 * D), draw(1, 2, ends[-1], 4 * D)
    together = passes(qkv, dout, start.astype(np.int32))
    for first, length in zip(ends - lengths, lengths, strict=True):
        own = (slice(1, 2), slice(first, first + length))
        seen = np.maximum(0, np.arange(length) - window + 1).astype(np.int32)[None]
        alone = passes(qkv[own], dout[own], None if window >= length else seen)
        assert all(np.array_equal(a[own], b) for a, b in zip(together, alone, strict=True))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5))
def test_a_document_that_is_seen_both_ways_has_the_bits_that_it_has_alone(draw, lengths):
    ends = np.cumsum(lengths)
    stop = np.repeat(ends, lengths).astype(np.int32)[None]
    start = stop - np.repeat(lengths, lengths).astype(np.int32)
    qkv, dout = draw(0, 1, ends[-1], 8 * D), draw(1, 1, ends[-1], 4 * D)
    together = passes(qkv, dout, start, stop)
    for first, length in zip(ends - lengths, lengths, strict=True):
        own = (slice(0, 1), slice(first, first + length))
        alone = passes(qkv[own], dout[own], None, np.full((1, length), length, np.int32))
        assert all(np.array_equal(a[own], b) for a, b in zip(together, alone, strict=True))


def test_stops_behind_each_token_are_the_causal_mask(draw):
    qkv = inputs(draw, 4, 2)
    causal, told = forward(qkv, 4, 2), forward(qkv, 4, 2, stop=np.arange(1, T + 1)[None] + 0 * STOP)
    assert all(np.array_equal(a, b) for a, b in zip(causal, told, strict=True))


def test_a_row_whose_starts_are_zero_is_one_document(draw):
    qkv = inputs(draw, 4, 2)
    whole, zeros = forward(qkv, 4, 2), forward(qkv, 4, 2, 0.0, 0 * START)
    assert all(np.array_equal(a, b) for a, b in zip(whole, zeros, strict=True))


def test_float32_stays_float32(draw):
    qkv = inputs(draw, 2, 1).astype(np.float32)
    out, lse = np.empty((B, T, 2 * D), np.float32), np.empty((B, 2, T), np.float32)
    attention_forward(qkv, out, lse, 2, 1, SCALE, 0.3, *KEY, None, None)
    expected, _ = forward(qkv.astype(np.float64), 2, 1, 0.3)
    assert 0 < largest_error(out, expected) < 1e-5


def places(t):
    return np.full(B, t, np.int32)


@HEADS
def test_decoding_token_by_token_is_the_whole_pass(draw, H, K):
    qkv = inputs(draw, H, K)
    out, _ = forward(qkv, H, K)
    k_cache, v_cache = (np.full((B, K, T + 2, D), np.nan) for _ in range(2))
    for t in range(T):
        step = np.full((B, H * D), np.nan)
        attention_decode(
            qkv[:, t].copy(), k_cache, v_cache, step, places(t), H, K, SCALE, places(0)
        )
        assert largest_error(step, out[:, t]) < FLOAT64_ROUNDING
    k = qkv[:, :, H * D : (H + K) * D].reshape(B, T, K, D).transpose(0, 2, 1, 3)
    v = qkv[:, :, (H + K) * D :].reshape(B, T, K, D).transpose(0, 2, 1, 3)
    assert np.array_equal(k_cache[:, :, :T], k)
    assert np.array_equal(v_cache[:, :, :T], v)
    assert np.isnan(k_cache[:, :, T:]).all()


@HEADS
@pytest.mark.parametrize("window", [1, 2, 3, T + 4])
def test_decoding_in_a_window_is_the_whole_pass_in_it(draw, H, K, window):
    """A key that has left the window may be anything: here it is NaN."""
    qkv = inputs(draw, H, K)
    first = np.maximum(np.arange(T) - window + 1, 0).astype(np.int32)
    out, _ = forward(qkv, H, K, 0.0, np.broadcast_to(first, (B, T)))
    k_cache, v_cache = (np.full((B, K, T, D), np.nan) for _ in range(2))
    for t in range(T):
        k_cache[:, :, : first[t]] = v_cache[:, :, : first[t]] = np.nan
        step = np.full((B, H * D), np.nan)
        attention_decode(
            qkv[:, t].copy(), k_cache, v_cache, step, places(t), H, K, SCALE, places(first[t])
        )
        assert largest_error(step, out[:, t]) < FLOAT64_ROUNDING
