"""Twins of what Muon does beside products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm_optimizers.reference._measure import measure

__all__ = ["muon_apply", "muon_direction", "muon_mix", "muon_transpose"]

Array = NDArray[Any]
QUIET = np.errstate(all="ignore")  # what overflows goes through, as in the kernels


@QUIET
def muon_direction(
    g_P: Array, momentum_P: Array, u_P: Array, momentum: float, nesterov: bool, grad_scale: float
) -> None:
    """Compute ``m = m + (1 - momentum) (g' - m)``; u is m, or ``m + (1 - momentum) (g' - m)``.

    The latter with ``nesterov``, of the new m. ``g' = g grad_scale``, rounded first.

    Parameters
    ----------
    g_P : ndarray of shape (P,), IN
        Gradient.
    momentum_P : ndarray of shape (P,), IN/OUT
        m.
    u_P : ndarray of shape (P,), OUT
        The direction.
    momentum : float
    nesterov : bool
    grad_scale : float
    """
    d_P, rest = g_P * float(grad_scale), float(1 - momentum)
    momentum_P += rest * (d_P - momentum_P)
    u_P[...] = momentum_P + rest * (d_P - momentum_P) if nesterov else momentum_P


@QUIET
def muon_mix(x_P: Array, y_P: Array, a: float, b: float) -> None:
    """Compute ``y = a x + b y``.

    Parameters
    ----------
    x_P : ndarray of shape (P,), IN
    y_P : ndarray of shape (P,), IN/OUT
    a, b : float
    """
    y_P *= float(b)
    y_P += float(a) * x_P


def muon_transpose(x_MN: Array, y_NM: Array) -> None:
    """Compute ``y = x^T``.

    Parameters
    ----------
    x_MN : ndarray of shape (M, N), IN
    y_NM : ndarray of shape (N, M), OUT
    """
    y_NM[...] = x_MN.T


@QUIET
def muon_apply(p_P: Array, o_P: Array, rate: float, pull: float, moved_K2: Array | None) -> None:
    """Compute ``p = p - (pull p + rate o)``.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters.
    o_P : ndarray of shape (P,), IN
        Orthogonalized direction.
    rate, pull : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        Of each 16384 elements, the squares of the moves, and of the parameters before.
    """
    before_P = None if moved_K2 is None else p_P.copy()
    p_P -= float(pull) * p_P + float(rate) * o_P
    measure(before_P, p_P, moved_K2)
