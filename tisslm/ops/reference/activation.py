"""Twins of the activations (GELU, its tanh form, SiLU, squared ReLU), of gates and the soft cap.

The activation that is fused with the product before it is in ``linear.py``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.storage import store, widen

__all__ = [
    "activation_backward",
    "activation_forward",
    "gated_backward",
    "gated_forward",
    "soft_cap_backward",
    "soft_cap_forward",
]

Array = NDArray[Any]

GELU = 0
GELU_TANH = 1
SILU = 2
RELU2 = 3

TANH_SCALE = math.sqrt(2 / math.pi)
TANH_CUBIC = 0.044715

#: Beyond this magnitude, the gate of GELU and of SiLU is 0 or 1 and its slope 0, and the square or
#: cube of x may be infinite.
REACH = 1000


def activation_forward(x_NF: Array, y_NF: Array, activation: int) -> None:
    """Compute ``y = act(x) = x g(x)``.

    GELU is ``x Phi(x)``, or ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``; SiLU is ``x s(x)``
    with the logistic function ``s(x) = 1 / (1 + exp(-x))``; squared ReLU is ``max(x, 0)^2``.

    Parameters
    ----------
    x_NF : ndarray of shape (N, F), IN
    y_NF : ndarray of shape (N, F), OUT
    activation : int
        0: GELU, exact. 1: GELU, tanh form. 2: SiLU. 3: squared ReLU.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv 1606.08415.
    Elfwing et al., "Sigmoid-Weighted Linear Units", arXiv 1702.03118.
    So et al., "Primer: Searching for Efficient Transformers", arXiv 2109.08668.
    """
    x = widen(x_NF)
    with np.errstate(over="ignore"):  # a square beyond the type is infinite, as in the kernels
        store(y_NF, x * _gate(x, activation)[0])


def activation_backward(
    x_NF: Array, dy_NF: Array, dx_NF: Array, y_NF: Array | None, activation: int
) -> None:
    """Compute ``dx = dy act'(x)`` and, where ``y`` is given, ``y = act(x)`` once more.

    With ``act(x) = x g(x)``, ``act'(x) = g(x) + x g'(x)``.

    Parameters
    ----------
    x_NF : ndarray of shape (N, F), IN
        The input of forward.
    dy_NF : ndarray of shape (N, F), IN
    dx_NF : ndarray of shape (N, F), OUT
        May be the same array as ``dy_NF``.
    y_NF : ndarray of shape (N, F) or None, OUT
    activation : int
        Code as in forward.
    """
    x = widen(x_NF)
    gate, slope = _gate(x, activation)
    with np.errstate(over="ignore"):
        store(dx_NF, widen(dy_NF) * (gate + x * slope))
        if y_NF is not None:
            store(y_NF, x * gate)


def gated_forward(pre_NG: Array, act_NF: Array, activation: int) -> None:
    """Compute ``act = f(gate) up``, where ``pre = [gate | up]`` and f is an activation.

    With SiLU that is SwiGLU, with GELU GeGLU.

    Parameters
    ----------
    pre_NG : ndarray of shape (N, G), G = 2 F, IN
        The gate in the first F columns, what it multiplies in the others.
    act_NF : ndarray of shape (N, F), OUT
    activation : int
        Code of f, as in ``activation_forward``.

    References
    ----------
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202.
    """
    gate_NF, up_NF = np.split(widen(pre_NG), 2, axis=1)
    with np.errstate(over="ignore"):
        store(act_NF, gate_NF * _gate(gate_NF, activation)[0] * up_NF)


def gated_backward(
    pre_NG: Array, dact_NF: Array, dpre_NG: Array, act_NF: Array | None, activation: int
) -> None:
    """Compute ``dpre = [dact up f'(gate) | dact f(gate)]`` and, where it is given, ``act`` again.

    Parameters
    ----------
    pre_NG : ndarray of shape (N, G), G = 2 F, IN
        The input of forward.
    dact_NF : ndarray of shape (N, F), IN
    dpre_NG : ndarray of shape (N, G), OUT
    act_NF : ndarray of shape (N, F) or None, OUT
        May be the same array as ``dact_NF``.
    activation : int
        Code as in forward.
    """
    gate_NF, up_NF = np.split(widen(pre_NG), 2, axis=1)
    step, slope = _gate(gate_NF, activation)
    d_NF, n_columns = widen(dact_NF), gate_NF.shape[1]
    with np.errstate(over="ignore"):
        store(dpre_NG[:, :n_columns], d_NF * up_NF * (step + gate_NF * slope))
        store(dpre_NG[:, n_columns:], d_NF * (gate_NF * step))
        if act_NF is not None:
            store(act_NF, gate_NF * step * up_NF)


def soft_cap_forward(z_NV: Array, slope_NV: Array | None, cap: float) -> None:
    """Compute ``z <- cap tanh(z / cap)`` and, where it is given, the slope ``1 - tanh(z / cap)^2``.

    Parameters
    ----------
    z_NV : ndarray of shape (N, V), IN/OUT
        Logits.
    slope_NV : ndarray of shape (N, V) or None, OUT
        The derivative by z, which backward needs.
    cap : float
        Above 0: what the results stay below in size.

    References
    ----------
    Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", arXiv 2408.00118.
    """
    tanh_NV = np.tanh(z_NV / cap)
    z_NV[...] = cap * tanh_NV
    if slope_NV is not None:
        slope_NV[...] = 1 - tanh_NV * tanh_NV


def soft_cap_backward(dz_NV: Array, slope_NV: Array) -> None:
    """Compute ``dz <- dz * slope``: the gradient by the capped logits becomes that by the others.

    Parameters
    ----------
    dz_NV : ndarray of shape (N, V), IN/OUT
    slope_NV : ndarray of shape (N, V), IN
        As forward has left it.
    """
    dz_NV *= slope_NV


def _gate(x: Array, activation: int) -> tuple[Array, Array]:
    """Return g(x) and g'(x), where the activation is x g(x)."""
    if activation == RELU2:
        return np.maximum(x, 0), (x > 0).astype(x.dtype)
    x = x.clip(-REACH, REACH)
    if activation == SILU:
        from scipy.special import expit

        gate = expit(x)
        return gate, gate * expit(-x)
    if activation == GELU:
        from scipy.special import erfc  # here, because its import takes a tenth of a second

        # erfc of -x keeps the relative accuracy of the left tail, which 1 + erf(x) loses
        return 0.5 * erfc(x * -math.sqrt(0.5)), np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    tanh = np.tanh(TANH_SCALE * (x + TANH_CUBIC * x * x * x))
    inner_slope = TANH_SCALE * (1 + 3 * TANH_CUBIC * x * x)
    return 0.5 * (1 + tanh), 0.5 * (1 - tanh * tanh) * inner_slope
