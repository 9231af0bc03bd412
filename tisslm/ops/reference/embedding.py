"""Twins of the embedding of tokens and positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.storage import widen

__all__ = ["embedding_backward", "embedding_forward"]

Array = NDArray[Any]


def embedding_forward(
    tokens_BT: Array,
    token_VC: Array,
    position_TC: Array | None,
    h_NC: Array,
    start_BT: Array | None,
) -> int:
    """Compute ``h[b T + t] = token[tokens[b, t]] + position[t - start[b, t]]``.

    Parameters
    ----------
    tokens_BT : ndarray of int32 of shape (B, T), IN
    token_VC : ndarray of shape (V, C), IN
        Stored in any type.
    position_TC : ndarray of shape (at least T, C) or None, IN
    h_NC : ndarray of shape (B T, C), OUT
    start_BT : ndarray of int32 of shape (B, T) or None, IN
        Position within the row where the document of each token begins, 0 <= start[b, t] <= t.
        None: a row is one document, and start is 0.

    Returns
    -------
    int
        0, or 1 + the flat index of the first id outside [0, V); ``h`` is then undefined.
    """
    bad = np.flatnonzero((tokens_BT < 0) | (tokens_BT >= len(token_VC)))
    if bad.size:
        return 1 + int(bad[0])
    B, T = tokens_BT.shape
    h_BTC = h_NC.reshape(B, T, -1)
    h_BTC[...] = widen(token_VC[tokens_BT])
    if position_TC is not None:
        h_BTC += position_TC[:T] if start_BT is None else position_TC[np.arange(T) - start_BT]
    return 0


def embedding_backward(
    tokens_BT: Array,
    dh_NC: Array,
    dtoken_VC: Array | None,
    dposition_TC: Array | None,
    order_N: Array,
    first_V: Array,
    accumulate_token: bool,
    accumulate_position: bool,
    start_BT: Array | None,
) -> None:
    """Sum the rows of dh that belong to each token, and those that belong to each position.

    ``dtoken[v] (+)= sum of dh[b, t] with tokens[b, t] = v``, and
    ``dposition[p] (+)= sum of dh[b, t] with t - start[b, t] = p``.

    Parameters
    ----------
    tokens_BT : ndarray of int32 of shape (B, T), IN
        Every id in [0, V): forward has checked them.
    dh_NC : ndarray of shape (B T, C), IN
    dtoken_VC : ndarray of shape (V, C) or None, IN/OUT with accumulate_token
    dposition_TC : ndarray of shape (at least T, C) or None, IN/OUT with accumulate_position
        Rows from T on get zeros, or stay as they are where gradients accumulate.
    order_N : ndarray of int32 of shape (B T,), scratch
        The kernel sorts the places by token here; the twin leaves it alone.
    first_V : ndarray of int32 of shape (V + 1,), scratch
        As ``order_N``; with ``start_BT``, at least T + 1 long.
    accumulate_token, accumulate_position : bool
        Add to the gradient instead of overwriting it.
    start_BT : ndarray of int32 of shape (B, T) or None, IN
        As in forward.
    """
    B, T = tokens_BT.shape
    if dtoken_VC is not None:
        if not accumulate_token:
            dtoken_VC[...] = 0
        np.add.at(dtoken_VC, tokens_BT.reshape(-1), dh_NC)
    if dposition_TC is None:
        return
    if not accumulate_position:
        dposition_TC[...] = 0
    if start_BT is None:
        dposition_TC[:T] += dh_NC.reshape(B, T, -1).sum(axis=0)
    else:
        np.add.at(dposition_TC, (np.arange(T) - start_BT).reshape(-1), dh_NC)
