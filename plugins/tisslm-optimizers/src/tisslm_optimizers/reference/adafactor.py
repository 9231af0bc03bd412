"""Twins of Adafactor's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["adafactor_apply", "adafactor_moments", "adafactor_sizes"]

Array = NDArray[Any]
QUIET = np.errstate(all="ignore")  # what overflows goes through, as in the kernels


@QUIET
def adafactor_moments(
    g_RC: Array,
    row_R: Array,
    column_C: Array,
    part_KC: Array,
    rest: float,
    eps1: float,
    grad_scale: float,
) -> None:
    """Compute ``row = row + rest (mean over columns of (g'^2 + eps1) - row)``; columns likewise.

    ``g' = g grad_scale``, rounded first.

    Parameters
    ----------
    g_RC : ndarray of shape (R, C), IN
        Gradient.
    row_R : ndarray of shape (R,), IN/OUT
    column_C : ndarray of shape (C,), IN/OUT
    part_KC : ndarray of shape (K, C), float64, scratch
        The kernel's sums of columns.
    rest, eps1, grad_scale : float

    References
    ----------
    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    arXiv 1804.04235, algorithm 4.
    """
    square_RC = np.square(g_RC * float(grad_scale), dtype=np.float64) + float(eps1)
    for mean, kept in ((square_RC.mean(axis=1), row_R), (square_RC.mean(axis=0), column_C)):
        kept += float(rest) * (mean - kept)


@QUIET
def adafactor_sizes(
    p_RC: Array,
    g_RC: Array,
    row_R: Array,
    column_C: Array,
    sums_K2: Array,
    scale: float,
    grad_scale: float,
) -> None:
    """Compute the sums of the squares of p, and of ``g' / sqrt(scale row column)``.

    Parameters
    ----------
    p_RC : ndarray of shape (R, C), IN
        Parameters.
    g_RC : ndarray of shape (R, C), IN
        Gradient.
    row_R, column_C : ndarray of shape (R,), (C,), IN
    sums_K2 : ndarray of shape (K, 2), float64, OUT
        Of K runs of rows: run k begins at row ``R k // K``.
    scale, grad_scale : float
    """
    step_RC = _steps(g_RC, row_R, column_C, scale, grad_scale)
    for k, rows in _runs(len(p_RC), len(sums_K2)):
        sums_K2[k] = (
            np.square(p_RC[rows], dtype=np.float64).sum(),
            np.square(step_RC[rows], dtype=np.float64).sum(),
        )


@QUIET
def adafactor_apply(
    p_RC: Array,
    g_RC: Array,
    row_R: Array,
    column_C: Array,
    moved_K2: Array | None,
    runs: int,
    scale: float,
    rate: float,
    pull: float,
    grad_scale: float,
) -> None:
    """Compute ``p = p - (pull p + rate g' / sqrt(scale row column))``.

    Parameters
    ----------
    p_RC : ndarray of shape (R, C), IN/OUT
        Parameters.
    g_RC : ndarray of shape (R, C), IN
        Gradient.
    row_R, column_C : ndarray of shape (R,), (C,), IN
    moved_K2 : ndarray of shape (K, 2), float64, or None, OUT
        Of K runs of rows, the squares of the moves, and of the parameters before.
    runs : int
        K.
    scale, rate, pull, grad_scale : float
    """
    before_RC = p_RC.astype(np.float64)
    step_RC = _steps(g_RC, row_R, column_C, scale, grad_scale)
    p_RC -= float(pull) * p_RC + float(rate) * step_RC
    if moved_K2 is not None:
        for k, rows in _runs(len(p_RC), runs):
            moved_K2[k] = (
                np.square(p_RC[rows] - before_RC[rows]).sum(),
                np.square(before_RC[rows]).sum(),
            )


def _steps(g_RC: Array, row_R: Array, column_C: Array, scale: float, grad_scale: float) -> Array:
    size_R = row_R * float(scale)
    return g_RC * float(grad_scale) / np.sqrt(size_R[:, None] * column_C)


def _runs(rows: int, count: int) -> Iterator[tuple[int, slice]]:
    for k in range(count):
        yield k, slice(rows * k // count, rows * (k + 1) // count)
