"""Twins of pooling: the rows of each text become one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.storage import widen

__all__ = ["pool_backward", "pool_forward"]

Array = NDArray[Any]

#: Codes of ``kind``, as kernels know them.
MEAN, LAST, MAX = 0, 1, 2

#: Codes of what is wrong: one for the call, and three for each text from ``FIRST_TEXT`` on.
NO_PLACES, FIRST_TEXT = 1, 2


def pool_forward(
    hidden_NC: Array,
    first_P: Array,
    stop_P: Array,
    out_PC: Array,
    kind: int,
    argmax_PC: Array | None,
) -> int:
    """Compute one row for each text: the mean of its rows, its last one, or the largest of each.

    With h the rows ``first[p] <= n < stop[p]`` of text p, ``out[p, c]`` is ``sum_n h[n, c] /
    (stop[p] - first[p])``, ``h[stop[p] - 1, c]``, or ``max_n h[n, c]``.

    Parameters
    ----------
    hidden_NC : ndarray of shape (N, C), stored, IN
    first_P, stop_P : ndarray of int64 of shape (P,), IN
        Where the rows of each text begin and end; texts do not overlap, and ascend. A row may
        belong to none.
    out_PC : ndarray of shape (P, C), OUT
    kind : int
        One of ``ops.POOLINGS``.
    argmax_PC : ndarray of int32 of shape (P, C) or None, OUT
        Of the maximum alone: the first row of the text that has it, counted from the text's own
        first. A NaN is larger than every number.

    Returns
    -------
    int
        0; or 2 + 3 p + (0: text p has no rows; 1: it reaches beyond those of hidden; 2: it begins
        before the end of the text before it). ``out`` is then untouched.
    """
    code = _wrong(first_P, stop_P, len(hidden_NC))
    if code:
        return code
    for p, (first, stop) in enumerate(zip(first_P, stop_P, strict=True)):
        rows = widen(hidden_NC[first:stop])
        if kind == MEAN:
            out_PC[p] = rows.sum(axis=0) / (stop - first)
        elif kind == LAST:
            out_PC[p] = rows[-1]
        else:
            places = rows.argmax(axis=0)
            out_PC[p] = np.take_along_axis(rows, places[None], axis=0)[0]
            if argmax_PC is not None:
                argmax_PC[p] = places
    return 0


def pool_backward(
    d_PC: Array,
    first_P: Array,
    stop_P: Array,
    dh_NC: Array,
    kind: int,
    argmax_PC: Array | None,
) -> int:
    """Compute the gradient of every row from that of the texts'.

    Of the mean, each row of text p gets ``d[p] / (stop[p] - first[p])``; of the last, that row gets
    ``d[p]``; of the maximum, ``d[p, c]`` goes to the row that ``argmax`` names. All else is 0.

    Parameters
    ----------
    d_PC : ndarray of shape (P, C), IN
    first_P, stop_P : ndarray of int64 of shape (P,), IN
        As in forward.
    dh_NC : ndarray of shape (N, C), OUT
        Every row is written; those that belong to no text get zeros.
    kind : int
        As in forward.
    argmax_PC : ndarray of int32 of shape (P, C) or None, IN
        What forward filled; None unless the kind is the maximum.

    Returns
    -------
    int
        As of forward; 1 where the maximum comes without ``argmax_PC``.
    """
    code = _wrong(first_P, stop_P, len(dh_NC))
    if kind == MAX and argmax_PC is None:
        code = NO_PLACES
    if code:
        return code
    dh_NC[...] = 0
    for p, (first, stop) in enumerate(zip(first_P, stop_P, strict=True)):
        if kind == MEAN:
            dh_NC[first:stop] = d_PC[p] / (stop - first)
        elif kind == LAST:
            dh_NC[stop - 1] = d_PC[p]
        elif argmax_PC is not None:
            named = argmax_PC[p] == np.arange(stop - first)[:, None]
            dh_NC[first:stop] = np.where(named, d_PC[p], 0)
    return 0


def _wrong(first_P: Array, stop_P: Array, N: int) -> int:
    """Return the code of the first text that is none, or 0."""
    end = 0
    for p, (first, stop) in enumerate(zip(first_P, stop_P, strict=True)):
        for what, wrong in enumerate((stop <= first, first < 0 or stop > N, first < end)):
            if wrong:
                return FIRST_TEXT + 3 * p + what
        end = stop
    return 0
