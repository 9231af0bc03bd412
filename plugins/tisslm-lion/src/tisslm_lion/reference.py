"""The NumPy twin of Lion's kernel, which also runs for float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["lion_update"]

Array = NDArray[Any]


@np.errstate(all="ignore")  # what overflows goes through, as in the kernel
def lion_update(
    p_P: Array,
    g_P: Array,
    m_P: Array,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    grad_scale: float,
) -> None:
    """Compute ``p = p (1 - lr weight_decay) - lr sign(beta1 m + (1 - beta1) g')``.

    After it, ``m = beta2 m + (1 - beta2) g'``, with ``g' = g grad_scale`` rounded first. A mean
    ``b m + (1 - b) g`` is taken as ``(m - g) b + g``.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters.
    g_P : ndarray of shape (P,), IN
        Gradient.
    m_P : ndarray of shape (P,), IN/OUT
        Momentum.
    lr, beta1, beta2, weight_decay, grad_scale : float

    References
    ----------
    Chen and others, "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675,
    algorithm 2.
    """
    g_P = g_P * float(grad_scale)
    step_P = np.sign((m_P - g_P) * float(beta1) + g_P) * float(lr)
    p_P *= float(1.0 - lr * weight_decay)
    p_P -= step_P
    m_P -= g_P
    m_P *= float(beta2)
    m_P += g_P
