"""Twins of LAMB's kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm_optimizers.reference._measure import BLOCK, measure

__all__ = ["lamb_apply", "lamb_moments"]

Array = NDArray[Any]


@np.errstate(all="ignore")  # what overflows goes through, as in the kernel
def lamb_moments(
    p_P: Array,
    g_P: Array,
    m_P: Array,
    v_P: Array,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
    grad_scale: float,
    sums_K2: Array,
) -> None:
    """Compute ``m = beta1 m + (1 - beta1) g'``, ``v = beta2 v + (1 - beta2) g'^2``, and sums.

    The sums are the squares of p, and of the direction ``(m / c1) / (sqrt(v / c2) + eps) +
    weight_decay p``. ``g' = g grad_scale``, rounded first.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN
        Parameters.
    g_P : ndarray of shape (P,), IN
        Gradient.
    m_P, v_P : ndarray of shape (P,), IN/OUT
        Running means of the gradient and of its square.
    beta1, beta2, eps, weight_decay : float
    correction1, correction2 : float
        c1 and c2: ``1 - beta^t`` after t updates, this one included.
    grad_scale : float
    sums_K2 : ndarray of shape (ceil(P / 16384), 2), float64, OUT
        Of each 16384 elements.

    References
    ----------
    You and others, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    arXiv 1904.00962, algorithm 2.
    """
    d_P = g_P * float(grad_scale)
    m_P *= float(beta1)
    m_P += float(1 - beta1) * d_P
    v_P *= float(beta2)
    v_P += float(1 - beta2) * d_P * d_P
    u_P = _direction(p_P, m_P, v_P, eps, weight_decay, correction1, correction2)
    starts = np.arange(0, p_P.size, BLOCK)
    for i, values_P in enumerate((p_P, u_P)):
        sums_K2[:, i] = np.add.reduceat(np.square(values_P, dtype=np.float64), starts)


@np.errstate(all="ignore")
def lamb_apply(
    p_P: Array,
    m_P: Array,
    v_P: Array,
    rate: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
    moved_K2: Array | None,
) -> None:
    """Compute ``p = p - rate u``, with the direction u of ``lamb_moments``.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters.
    m_P, v_P : ndarray of shape (P,), IN
    rate, eps, weight_decay, correction1, correction2 : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        Of each 16384 elements, the squares of the moves, and of the parameters before.
    """
    before_P = None if moved_K2 is None else p_P.copy()
    p_P -= float(rate) * _direction(p_P, m_P, v_P, eps, weight_decay, correction1, correction2)
    measure(before_P, p_P, moved_K2)


def _direction(
    p_P: Array, m_P: Array, v_P: Array, eps: float, decay: float, c1: float, c2: float
) -> Array:
    mean_P = m_P / float(c1)
    return mean_P / (np.sqrt(v_P) / math.sqrt(c2) + float(eps)) + float(decay) * p_P
