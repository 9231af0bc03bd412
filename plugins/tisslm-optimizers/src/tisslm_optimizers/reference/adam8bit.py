"""Twin of the kernel of AdamW with means in 8 bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm_optimizers.dynamic_map import LEVELS, nearest, pack_signed, unpack_signed
from tisslm_optimizers.reference._measure import measure

__all__ = ["QUANTIZED", "adam8bit_update"]

Array = NDArray[Any]

#: Elements that share a scale.
QUANTIZED = 256


@np.errstate(all="ignore")  # what overflows goes through, as in the kernel
def adam8bit_update(
    p_P: Array,
    g_P: Array,
    m_P: Array,
    v_P: Array,
    m_scale_B: Array,
    v_scale_B: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
    grad_scale: float,
    moved_K2: Array | None,
) -> None:
    """Unpack m and v, make AdamW's update with them, and pack them by the largest of each block.

    ``m = beta1 m + (1 - beta1) g'``; ``v = beta2 v + (1 - beta2) g'^2``;
    ``p = p - lr (m / c1 / (sqrt(v / c2) + eps) + weight_decay p)``, all before packing.
    ``g' = g grad_scale``, rounded first.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        A parameter, from its first element on.
    g_P : ndarray of shape (P,), IN
        Gradient.
    m_P, v_P : ndarray of shape (P,), uint8, IN/OUT
        Bytes that stand for the running means over the scale of their block.
    m_scale_B, v_scale_B : ndarray of shape (ceil(P / 256),), IN/OUT
        Largest magnitude of each block.
    lr, beta1, beta2, eps, weight_decay : float
    correction1, correction2 : float
        c1 and c2: ``1 - beta^t`` after t updates, this one included.
    grad_scale : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        Of each 16384 elements, the squares of the moves, and of the parameters before.

    References
    ----------
    Dettmers, Lewis, Shleifer and Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
    arXiv 2110.02861.
    """
    before_P = None if moved_K2 is None else p_P.copy()
    d_P = g_P * float(grad_scale)
    mean_P = float(beta1) * _spread(unpack_signed(m_P), m_scale_B)
    mean_P += float(1 - beta1) * d_P
    square_P = float(beta2) * _spread(LEVELS["unsigned"][v_P], v_scale_B)
    square_P += float(1 - beta2) * d_P * d_P
    root_P = np.sqrt(square_P) / math.sqrt(correction2) + float(eps)
    p_P -= float(lr * weight_decay) * p_P + float(lr / correction1) * mean_P / root_P
    m_P[...] = pack_signed(_shrink(mean_P, m_scale_B))
    v_P[...] = nearest("unsigned", _shrink(square_P, v_scale_B))
    measure(before_P, p_P, moved_K2)


def _spread(share_P: Array, scale_B: Array) -> Array:
    """Multiply each element by the scale of its block."""
    found: Array = share_P.astype(scale_B.dtype) * np.repeat(scale_B, QUANTIZED)[: share_P.size]
    return found


def _shrink(x_P: Array, scale_B: Array) -> Array:
    """Write the largest magnitude of each block to its scale, and divide by it."""
    scale_B[...] = np.maximum.reduceat(np.abs(x_P), np.arange(0, x_P.size, QUANTIZED))
    divisor_B = np.where(scale_B == 0.0, 1.0, scale_B)
    return x_P / np.repeat(divisor_B, QUANTIZED)[: x_P.size]  # type: ignore[no-any-return]
