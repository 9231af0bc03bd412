"""Twins of schedule-free AdamW's kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm_optimizers.reference._measure import measure

__all__ = ["schedule_free_point", "schedule_free_update"]

Array = NDArray[Any]


@np.errstate(all="ignore")  # what overflows goes through, as in the kernel
def schedule_free_update(
    p_P: Array,
    g_P: Array,
    x_P: Array,
    z_P: Array,
    v_P: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction2: float,
    share: float,
    grad_scale: float,
    moved_K2: Array | None,
) -> None:
    """Compute ``z = z - lr (g' / (sqrt(v / c2) + eps) + weight_decay p)`` and what follows from it.

    Before it, ``v = beta2 v + (1 - beta2) g'^2``. After it, ``x = x + share (z - x)`` and
    ``p = x + (1 - beta1) (z - x)``. ``g' = g grad_scale``, rounded first.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters: y, where the gradient was taken.
    g_P : ndarray of shape (P,), IN
        Gradient.
    x_P : ndarray of shape (P,), IN/OUT
        The average.
    z_P : ndarray of shape (P,), IN/OUT
        What is averaged.
    v_P : ndarray of shape (P,), IN/OUT
        Running mean of the gradient's square.
    lr, beta1, beta2, eps, weight_decay : float
    correction2 : float
        c2: ``1 - beta2^t`` after t updates, this one included.
    share : float
        Weight of this z in the average.
    grad_scale : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        Of each 16384 elements, the squares of the moves, and of the parameters before.

    References
    ----------
    Defazio and others, "The Road Less Scheduled", arXiv 2405.15682, algorithm 1.
    """
    before_P = None if moved_K2 is None else p_P.copy()
    d_P = g_P * float(grad_scale)
    v_P *= float(beta2)
    v_P += float(1 - beta2) * d_P * d_P
    step_P = d_P / (np.sqrt(v_P) / math.sqrt(correction2) + float(eps))
    z_P -= float(lr) * step_P + float(lr * weight_decay) * p_P
    x_P += float(share) * (z_P - x_P)
    schedule_free_point(p_P, x_P, z_P, beta1)
    measure(before_P, p_P, moved_K2)


def schedule_free_point(p_P: Array, x_P: Array, z_P: Array, beta1: float) -> None:
    """Compute ``p = x + (1 - beta1) (z - x)``, which is x exactly where z is.

    Parameters
    ----------
    p_P : ndarray of shape (P,), OUT
    x_P, z_P : ndarray of shape (P,), IN
    beta1 : float
    """
    p_P[...] = x_P + float(1 - beta1) * (z_P - x_P)
