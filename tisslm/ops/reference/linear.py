"""Twins of the matrix products: the linear map, forward and backward, and the plain product.

Activations (x, y, dy, dx) may be stored in any type of ``storage.py``. Activations by themselves
are in ``activation.py``.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tisslm.ops.reference.activation import activation_forward
from tisslm.ops.reference.storage import store, widen

__all__ = [
    "linear_activation_forward",
    "linear_add_backward_input",
    "linear_add_columns",
    "linear_backward",
    "linear_backward_input",
    "linear_backward_weight",
    "linear_columns_backward_input",
    "linear_columns_backward_weight",
    "linear_decode",
    "linear_forward",
    "linear_residual_forward",
    "matmul",
]

Array = NDArray[Any]

BLOCK = 64  # rows summed first; the blocks' sums are then added in order, as in the kernels


def linear_forward(x_NC: Array, w_OC: Array, b_O: Array | None, y_NO: Array) -> None:
    """Compute ``y = x w^T + b``.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    w_OC : ndarray of shape (O, C), IN
    b_O : ndarray of shape (O,) or None, IN
    y_NO : ndarray of shape (N, O), OUT
    """
    y = widen(x_NC) @ widen(w_OC).T
    store(y_NO, y if b_O is None else y + b_O)


def linear_residual_forward(x_NC: Array, w_OC: Array, b_O: Array | None, h_NO: Array) -> None:
    """Compute ``h = h + x w^T + b``.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    w_OC : ndarray of shape (O, C), IN
    b_O : ndarray of shape (O,) or None, IN
    h_NO : ndarray of shape (N, O), IN/OUT
        The residual stream.
    """
    h_NO += widen(x_NC) @ widen(w_OC).T
    if b_O is not None:
        h_NO += b_O


def linear_activation_forward(
    x_NC: Array, w_OC: Array, b_O: Array | None, y_NO: Array, a_NO: Array, activation: int
) -> None:
    """Compute ``y = x w^T + b`` and ``a = act(y)``.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    w_OC : ndarray of shape (O, C), IN
    b_O : ndarray of shape (O,) or None, IN
    y_NO : ndarray of shape (N, O), OUT
        The pre-activation, which backward needs.
    a_NO : ndarray of shape (N, O), OUT
    activation : int
        Code of ``activation.py``.
    """
    linear_forward(x_NC, w_OC, b_O, y_NO)
    activation_forward(y_NO, a_NO, activation)


def linear_decode(x_NC: Array, w_OC: Array, b_O: Array | None, y_NO: Array) -> None:
    """Compute ``y = x w^T + b`` for the few rows of decoded tokens.

    The kernel reads the weight once and packs nothing. The bits of a row of y do not depend on the
    rows beside it.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    w_OC : ndarray of shape (O, C), IN
        Stored in any type.
    b_O : ndarray of shape (O,) or None, IN
    y_NO : ndarray of shape (N, O), OUT
    """
    y = x_NC @ widen(w_OC).T
    y_NO[...] = y if b_O is None else y + b_O


def linear_backward_input(dy_NO: Array, w_OC: Array, dx_NC: Array) -> None:
    """Compute ``dx = dy w``.

    Parameters
    ----------
    dy_NO : ndarray of shape (N, O), IN
    w_OC : ndarray of shape (O, C), IN
    dx_NC : ndarray of shape (N, C), OUT
    """
    store(dx_NC, widen(dy_NO) @ widen(w_OC))


def linear_backward_weight(
    dy_NO: Array, x_NC: Array, dw_OC: Array | None, db_O: Array | None, accumulate: bool
) -> None:
    """Compute ``dw (+)= dy^T x`` and ``db (+)= sum over rows of dy``.

    Parameters
    ----------
    dy_NO : ndarray of shape (N, O), IN
    x_NC : ndarray of shape (N, C), IN
    dw_OC : ndarray of shape (O, C) or None, IN/OUT with accumulate
    db_O : ndarray of shape (O,) or None, IN/OUT with accumulate
    accumulate : bool
        Add to ``dw`` and ``db`` instead of overwriting them.
    """
    dy_NO = widen(dy_NO)
    if dw_OC is not None:
        if not accumulate:
            dw_OC[...] = 0
        dw_OC += dy_NO.T @ widen(x_NC)
    if db_O is None:
        return
    if not accumulate:
        db_O[...] = 0
    for start in range(0, len(dy_NO), BLOCK):
        db_O += dy_NO[start : start + BLOCK].sum(axis=0)


def linear_backward(
    dy_NO: Array,
    w_OC: Array,
    x_NC: Array,
    dx_NC: Array,
    dw_OC: Array,
    db_O: Array | None,
    accumulate: bool,
) -> None:
    """Compute ``dx``, ``dw`` and ``db`` as the two above do, by threads that share all of it.

    Parameters
    ----------
    dy_NO : ndarray of shape (N, O), IN
    w_OC : ndarray of shape (O, C), IN
    x_NC : ndarray of shape (N, C), IN
    dx_NC : ndarray of shape (N, C), OUT
        Neither dy nor x.
    dw_OC : ndarray of shape (O, C), IN/OUT with accumulate
    db_O : ndarray of shape (O,) or None, IN/OUT with accumulate
    accumulate : bool
        Add to ``dw`` and ``db`` instead of overwriting them.
    """
    linear_backward_input(dy_NO, w_OC, dx_NC)
    linear_backward_weight(dy_NO, x_NC, dw_OC, db_O, accumulate)


def linear_add_columns(x_NC: Array, w_OC: Array, y_NE: Array, first: int) -> None:
    """Compute ``y[:, first:first + O] += x w^T``.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    w_OC : ndarray of shape (O, C), IN
    y_NE : ndarray of shape (N, E), IN/OUT
        Rows of several maps side by side. Where it is stored in two bytes, the sum is rounded.
    first : int
        The first of the O columns.
    """
    columns = y_NE[:, first : first + len(w_OC)]
    store(columns, widen(columns) + widen(x_NC) @ widen(w_OC).T)


def linear_columns_backward_input(dy_NE: Array, w_OC: Array, dx_NC: Array, first: int) -> None:
    """Compute ``dx = dy[:, first:first + O] w``.

    Parameters
    ----------
    dy_NE : ndarray of shape (N, E), IN
    w_OC : ndarray of shape (O, C), IN
    dx_NC : ndarray of shape (N, C), OUT
    first : int
        The first of the O columns.
    """
    store(dx_NC, widen(dy_NE)[:, first : first + len(w_OC)] @ widen(w_OC))


def linear_columns_backward_weight(
    dy_NE: Array, x_NC: Array, dw_OC: Array, first: int, accumulate: bool
) -> None:
    """Compute ``dw (+)= dy[:, first:first + O]^T x``.

    Parameters
    ----------
    dy_NE : ndarray of shape (N, E), IN
    x_NC : ndarray of shape (N, C), IN
    dw_OC : ndarray of shape (O, C), IN/OUT with accumulate
    first : int
        The first of the O columns.
    accumulate : bool
        Add to ``dw`` instead of overwriting it.
    """
    if not accumulate:
        dw_OC[...] = 0
    dw_OC += widen(dy_NE)[:, first : first + len(dw_OC)].T @ widen(x_NC)


def linear_add_backward_input(dy_NO: Array, w_OC: Array, dx_NC: Array) -> None:
    """Compute ``dx += dy w``.

    Parameters
    ----------
    dy_NO : ndarray of shape (N, O), IN
    w_OC : ndarray of shape (O, C), IN
    dx_NC : ndarray of shape (N, C), IN/OUT
        Where it is stored in two bytes, the sum is rounded.
    """
    store(dx_NC, widen(dx_NC) + widen(dy_NO) @ widen(w_OC))


def matmul(a_MK: Array, b_KN: Array, c_MN: Array) -> None:
    """Compute ``c = a b``.

    Parameters
    ----------
    a_MK : ndarray of shape (M, K), IN
    b_KN : ndarray of shape (K, N), IN
    c_MN : ndarray of shape (M, N), OUT
    """
    store(c_MN, widen(a_MK) @ widen(b_KN))
