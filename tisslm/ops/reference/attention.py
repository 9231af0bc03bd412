"""Twins of multi-head attention, causal or not: forward, backward, entropy, one decoding step.

Whole score matrices are formed and masked, a document at a time, so that it gets the bits that it
gets alone; the kernels work in tiles and keep only the log-sum-exp. Letters beside the usual ones:
G = H/K query heads share a key-value head (head h reads h // G), E = (H + 2K) D, S = length of the
cache.

References
----------
Vaswani et al., "Attention Is All You Need", arXiv 1706.03762.
Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", arXiv 2305.13245.
Dao, "FlashAttention-2", arXiv 2307.08691 (the statistics kept for backward).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.dropout import keep_mask
from tisslm.ops.reference.storage import store, widen

__all__ = [
    "attention_backward",
    "attention_decode",
    "attention_entropy",
    "attention_forward",
]

Array = NDArray[Any]


def attention_forward(
    qkv_BTE: Array,
    out_BTC: Array,
    lse_BHT: Array,
    n_head: int,
    n_kv_head: int,
    scale: float,
    p: float,
    seed: int,
    update: int,
    site: int,
    first_row: int,
    start_BT: Array | None,
    stop_BT: Array | None,
) -> None:
    """Compute ``out = dropout(softmax(scale q k^T)) v`` per head, over the keys that a query sees.

    Parameters
    ----------
    qkv_BTE : ndarray of shape (B, T, (H + 2K) D), IN
        Channels are [query heads | key heads | value heads].
    out_BTC : ndarray of shape (B, T, H D), OUT
    lse_BHT : ndarray of shape (B, H, T), OUT
        ``log(sum over keys of exp(scale q k))``, saved for backward.
    n_head, n_kv_head : int
        H, and K, a divisor of H.
    scale : float
        Usually ``1 / sqrt(D)``.
    p : float
        Probability of dropping an attention probability, 0 <= p < 1.
    seed, update, site, first_row : int
        Key of the draw as in ``dropout.py``; the element is ``(h T + key) T + query``.
    start_BT : ndarray of int32 of shape (B, T) or None, IN
        Query t sees the keys from ``start[t]`` to t: where its document begins, or a sliding window
        of W keys, ``max(document, t - W + 1)``. 0 <= start[t] <= t, and no start is below the one
        before it, which is all that is asked of them. None: from 0 on.
    stop_BT : ndarray of int32 of shape (B, T) or None, IN
        Query t sees no key from ``stop[t]`` on: where its document ends. t < stop[t] <= T, and no
        stop is below the one before it. None, causal: t + 1, no query sees a later key.
    """
    B, T, _ = qkv_BTE.shape
    whole = _split(widen(qkv_BTE), n_head, n_kv_head)
    lse_BKGT1 = np.empty((*whole[0].shape[:-1], 1), lse_BHT.dtype)
    heads_BKGTD = np.empty(whole[0].shape, whole[0].dtype)
    mask = _scaled_mask(whole[0], p, seed, update, site, first_row)
    for rows, times, seen in _documents(start_BT, stop_BT, B, T):
        q, k, v = (part[rows, :, :, times] for part in whole)
        score = _seen_scores(q, k, scale, seen)
        top = score.max(axis=-1, keepdims=True)
        lse = top + np.log(np.exp(score - top).sum(axis=-1, keepdims=True))
        prob = np.exp(score - lse)
        if mask is not None:
            prob = prob * mask[rows, :, :, times, times]
        lse_BKGT1[rows, :, :, times] = lse
        heads_BKGTD[rows, :, :, times] = prob @ v
    lse_BHT[...] = lse_BKGT1.reshape(lse_BHT.shape)
    _join(out_BTC, heads_BKGTD)


def attention_backward(
    dout_BTC: Array,
    qkv_BTE: Array,
    out_BTC: Array,
    lse_BHT: Array,
    dqkv_BTE: Array,
    n_head: int,
    n_kv_head: int,
    scale: float,
    p: float,
    seed: int,
    update: int,
    site: int,
    first_row: int,
    start_BT: Array | None,
    stop_BT: Array | None,
    dkv_M2TD: Array | None,
) -> None:
    """Compute ``dq = dS k``, ``dk = dS^T q`` and ``dv = (P M)^T dout``.

    Here ``dS = P (dP - rowsum(dP P)) scale``, ``P = exp(scale q k^T - lse)``,
    ``dP = M (dout v^T)``, and M is the scaled dropout mask, 1 without dropout. Where query heads
    share a key-value head, their contributions to dk and dv are summed.

    Parameters
    ----------
    dout_BTC : ndarray of shape (B, T, H D), IN
    qkv_BTE : ndarray of shape (B, T, (H + 2K) D), IN
    out_BTC : ndarray of shape (B, T, H D), IN
        The kernel takes rowsum(dP P) from ``dout out``; the twin sums the product itself.
    lse_BHT : ndarray of shape (B, H, T), IN
    dqkv_BTE : ndarray of shape (B, T, (H + 2K) D), OUT
    start_BT, stop_BT : ndarray of int32 of shape (B, T) or None, IN
    dkv_M2TD : ndarray of shape (M, 2, T, D) or None, scratch
        Where M query heads at a time leave their dk and dv until these are added up, M a multiple
        of G: ``ops.dkv_shape`` says which. The result does not depend on it. None where no two
        heads share a key-value head; the twin leaves it alone.
    n_head, n_kv_head, scale, p, seed, update, site, first_row
        As in forward.

    Returns
    -------
    None
        The kernel returns 1 where heads share a key-value head and M is less than G.
    """
    B, T, _ = qkv_BTE.shape
    whole = _split(widen(qkv_BTE), n_head, n_kv_head)
    gradient_BTE = np.empty(dqkv_BTE.shape, np.result_type(whole[0], lse_BHT))
    gradients = _split(gradient_BTE, n_head, n_kv_head)
    dout_BKGTD = (
        widen(dout_BTC).reshape(B, T, n_kv_head, n_head // n_kv_head, -1).transpose(0, 2, 3, 1, 4)
    )
    lse_BKGT1 = lse_BHT.reshape(*whole[0].shape[:-1], 1)
    mask = _scaled_mask(whole[0], p, seed, update, site, first_row)
    for rows, times, seen in _documents(start_BT, stop_BT, B, T):
        q, k, v = (part[rows, :, :, times] for part in whole)
        dq, dk, dv = (part[rows, :, :, times] for part in gradients)
        dout = dout_BKGTD[rows, :, :, times]
        prob = np.exp(_seen_scores(q, k, scale, seen) - lse_BKGT1[rows, :, :, times])
        dprob = dout @ v.swapaxes(-1, -2)
        dropped = prob
        if mask is not None:
            dropped = prob * mask[rows, :, :, times, times]
            dprob = dprob * mask[rows, :, :, times, times]
        dscore = prob * (dprob - (dprob * prob).sum(axis=-1, keepdims=True)) * scale
        dq[...] = dscore @ k
        # the heads of a group share k and v, so their gradients are summed over the group
        dk[...] = (dscore.swapaxes(-1, -2) @ q).sum(axis=2, keepdims=True)
        dv[...] = (dropped.swapaxes(-1, -2) @ dout).sum(axis=2, keepdims=True)
    store(dqkv_BTE, gradient_BTE)


def attention_entropy(
    qkv_BTE: Array,
    lse_BHT: Array,
    entropy_BHT: Array,
    n_head: int,
    n_kv_head: int,
    scale: float,
    start_BT: Array | None,
    stop_BT: Array | None,
) -> None:
    """Compute the entropy of each query's probabilities, ``sum over its keys of -P log P``.

    With ``P = exp(scale q k^T - lse)``, this is ``sum of P (lse - scale q k^T)``. The probabilities
    are those before dropout.

    Parameters
    ----------
    qkv_BTE : ndarray of shape (B, T, (H + 2K) D), IN
    lse_BHT : ndarray of shape (B, H, T), IN
        What forward has written.
    entropy_BHT : ndarray of shape (B, H, T), OUT
        In nats, from 0 (one key has probability 1) to the logarithm of the number of keys that the
        query sees.
    start_BT, stop_BT : ndarray of int32 of shape (B, T) or None, IN
    n_head, n_kv_head, scale
        As in forward.
    """
    B, T, _ = qkv_BTE.shape
    whole = _split(widen(qkv_BTE), n_head, n_kv_head)
    lse_BKGT1 = lse_BHT.reshape(*whole[0].shape[:-1], 1)
    entropy_BKGT = np.empty(whole[0].shape[:-1], whole[0].dtype)
    for rows, times, seen in _documents(start_BT, stop_BT, B, T):
        q, k, _ = (part[rows, :, :, times] for part in whole)
        score = _seen_scores(q, k, scale, seen)
        lse = lse_BKGT1[rows, :, :, times]
        surprise = np.where(np.isneginf(score), 0.0, lse - score)  # an unseen key has no share
        entropy_BKGT[rows, :, :, times] = (np.exp(-surprise) * surprise).sum(axis=-1)
    entropy = entropy_BKGT.reshape(entropy_BHT.shape)
    entropy_BHT[...] = np.where(entropy < 0.0, 0.0, entropy)


def attention_decode(
    qkv_BE: Array,
    k_BKSD: Array,
    v_BKSD: Array,
    out_BC: Array,
    position_B: Array,
    n_head: int,
    n_kv_head: int,
    scale: float,
    first_B: Array,
) -> None:
    """Store one token's k and v of each sample, and compute its attention to the keys it sees.

    Parameters
    ----------
    qkv_BE : ndarray of shape (B, (H + 2K) D), IN
        Channels are [query heads | key heads | value heads] of the new token.
    k_BKSD, v_BKSD : ndarray of shape (B, K, S, D), IN/OUT
        The cache; positions from ``first`` to ``position`` are filled, the last by this call.
    out_BC : ndarray of shape (B, H D), OUT
    position_B : ndarray of int32 of shape (B,), IN
        Of each sample's new token, 0 <= position < S.
    n_head, n_kv_head, scale
        As in forward.
    first_B : ndarray of int32 of shape (B,), IN
        0 <= first <= position: the first key that the token sees, ``max(0, position - W + 1)`` in a
        sliding window of W keys. Earlier rows of the cache are not read.
    """
    for b, (position, first) in enumerate(zip(position_B, first_B, strict=True)):
        q, k, v = _split(qkv_BE[b : b + 1, None], n_head, n_kv_head)
        k_BKSD[b, :, position] = k[0, :, 0, 0]
        v_BKSD[b, :, position] = v[0, :, 0, 0]
        seen = slice(first, position + 1)
        score = q @ k_BKSD[b : b + 1, :, None, seen].swapaxes(-1, -2) * scale
        weight = np.exp(score - score.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        out_BC[b] = (weight @ v_BKSD[b : b + 1, :, None, seen]).reshape(-1)


def _split(qkv_BTE: Array, n_head: int, n_kv_head: int) -> tuple[Array, Array, Array]:
    """View q as (B, K, G, T, D), and k and v as (B, K, 1, T, D)."""
    B, T, E = qkv_BTE.shape
    size = E // (n_head + 2 * n_kv_head)
    edge = n_head * size
    # splitting an axis never copies: results are written through these views
    q = qkv_BTE[..., :edge].reshape(B, T, n_kv_head, n_head // n_kv_head, size)
    kv = qkv_BTE[..., edge:].reshape(B, T, 2 * n_kv_head, 1, size).transpose(0, 2, 3, 1, 4)
    return q.transpose(0, 2, 3, 1, 4), kv[:, :n_kv_head], kv[:, n_kv_head:]


def _join(out_BTC: Array, heads_BKGTD: Array) -> None:
    store(out_BTC, heads_BKGTD.transpose(0, 3, 1, 2, 4).reshape(out_BTC.shape))


def _documents(
    start_BT: Array | None, stop_BT: Array | None, batch: int, time: int
) -> Iterator[tuple[slice, slice, tuple[Array | None, Array | None]]]:
    """Yield rows and tokens that see nothing outside of them, with starts and stops from there.

    A token that begins at itself, and that none before it sees, begins a piece: neither it nor a
    later one sees what is before. Without starts and stops, all rows are one piece.
    """
    if start_BT is None and stop_BT is None:
        yield slice(0, batch), slice(0, time), (None, None)
        return
    places = np.arange(time)
    for row in range(batch):
        start_T = 0 * places if start_BT is None else start_BT[row]
        stop_T = places + 1 if stop_BT is None else stop_BT[row]
        begins = (start_T == places) & (np.concatenate([[0], stop_T[:-1]]) <= places)
        first_of = np.flatnonzero(begins)
        for first, end in zip(first_of, [*first_of[1:], time], strict=True):
            own = slice(first, end)
            seen = (start_T[own] - first, None if stop_BT is None else stop_T[own] - first)
            yield slice(row, row + 1), own, seen


def _seen_scores(
    q: Array, k: Array, scale: float, seen: tuple[Array | None, Array | None]
) -> Array:
    """Return the scores, with -inf for keys before a query's start, and from its stop on."""
    score = q @ k.swapaxes(-1, -2) * scale
    places = np.arange(score.shape[-1])
    start_T, stop_T = seen
    unseen = places >= (places + 1 if stop_T is None else stop_T)[:, None]
    if start_T is not None:
        unseen = unseen | (places < start_T[:, None])
    return np.where(unseen, score.dtype.type(-np.inf), score)


def _scaled_mask(
    q_BKGTD: Array, p: float, seed: int, update: int, site: int, first_row: int
) -> Array | None:
    """Return what probabilities are multiplied by, (B, K, G, T, T); None without dropout."""
    if p <= 0:
        return None
    *outer, T, _ = q_BKGTD.shape
    shape = (*outer, T, T)
    n_elements = math.prod(shape[1:])
    keep = keep_mask(len(q_BKGTD), n_elements, p, seed, update, site, first_row)
    # elements run over queries first, because the kernel holds scores one row per key
    by_query = keep.reshape(shape).swapaxes(-1, -2)
    scaled: Array = by_query * q_BKGTD.dtype.type(1 / (1 - p))
    return scaled
