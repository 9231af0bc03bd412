"""Twins of the optimizers' updates, and of the flat operations on gradients.

Arrays are flat and may be any contiguous part of an arena. An update reads the gradient as
``g' = g grad_scale``, rounded to the array's type first: scaling the arena beforehand therefore
gives the same bits. Elements whose parameter, gradient and state are zero (padding) stay zero.

Parameter groups and the bias corrections of a step are handled in ``tisslm.optim.optimizers``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "adam_update",
    "add",
    "average",
    "fill",
    "rmsprop_update",
    "scale",
    "sgd_update",
    "squared_norm",
]

Array = NDArray[Any]

BLOCK = 16384  # elements whose squares form one partial sum, as in the kernels
QUIET = np.errstate(all="ignore")  # gradients that overflow go through, as in the kernels


@QUIET
def sgd_update(
    p_P: Array,
    g_P: Array,
    momentum_P: Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    first: bool,
    grad_scale: float,
    moved_K2: Array | None,
) -> None:
    """Compute ``d = g' + weight_decay p``, ``b = momentum b + d``, ``p = p - lr b``.

    With ``nesterov`` the step is ``d + momentum b`` instead of ``b``; without a buffer it is ``d``.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters.
    g_P : ndarray of shape (P,), IN
        Gradient.
    momentum_P : ndarray of shape (P,) or None, IN/OUT
        Buffer b; None for plain gradient descent.
    lr, momentum : float
    nesterov : bool
    weight_decay : float
        L2 penalty, part of the gradient.
    first : bool
        Overwrite the buffer by d, whatever it holds.
    grad_scale : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        As ``_measure_move`` says.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in
    deep learning", ICML 2013.
    """
    before_P = None if moved_K2 is None else p_P.copy()
    d_P = _decayed_gradient(p_P, g_P, weight_decay, grad_scale)
    if momentum_P is not None:
        if first:
            momentum_P[...] = d_P
        else:
            momentum_P *= float(momentum)
            momentum_P += d_P
        d_P = d_P + float(momentum) * momentum_P if nesterov else momentum_P
    p_P -= float(lr) * d_P
    _measure_move(before_P, p_P, moved_K2)


@QUIET
def adam_update(
    p_P: Array,
    g_P: Array,
    m_P: Array,
    v_P: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    correction1: float,
    correction2: float,
    grad_scale: float,
    moved_K2: Array | None,
) -> None:
    """Compute ``p = p - lr (m / c1 / (sqrt(v / c2) + eps) + decay p)``.

    Before it, ``m = beta1 m + (1 - beta1) d`` and ``v = beta2 v + (1 - beta2) d^2``. Decoupled:
    ``d = g'`` and ``decay = weight_decay``. Otherwise ``d = g' + weight_decay p``, ``decay = 0``.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters.
    g_P : ndarray of shape (P,), IN
        Gradient.
    m_P, v_P : ndarray of shape (P,), IN/OUT
        Running means of the gradient and of its square.
    lr, beta1, beta2, eps, weight_decay : float
    decoupled : bool
        AdamW's decay instead of an L2 penalty.
    correction1, correction2 : float
        c1 and c2: ``1 - beta^t`` after t updates, this one included.
    grad_scale : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        As ``_measure_move`` says.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """
    before_P = None if moved_K2 is None else p_P.copy()
    d_P = _decayed_gradient(p_P, g_P, 0.0 if decoupled else weight_decay, grad_scale)
    m_P *= float(beta1)
    m_P += float(1 - beta1) * d_P
    v_P *= float(beta2)
    v_P += float(1 - beta2) * d_P * d_P
    change_P = float(lr / correction1) * m_P / (np.sqrt(v_P) / math.sqrt(correction2) + float(eps))
    if decoupled:
        # one subtraction for both: p (1 - lr decay) on its own rounds to p when lr decay is small
        change_P += float(lr * weight_decay) * p_P
    p_P -= change_P
    _measure_move(before_P, p_P, moved_K2)


@QUIET
def rmsprop_update(
    p_P: Array,
    g_P: Array,
    square_P: Array,
    average_P: Array | None,
    momentum_P: Array | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    grad_scale: float,
    moved_K2: Array | None,
) -> None:
    """Compute ``p = p - lr b``, ``b = momentum b + d / (sqrt(square - average^2) + eps)``.

    Before it, ``d = g' + weight_decay p``, ``square = alpha square + (1 - alpha) d^2`` and
    ``average = alpha average + (1 - alpha) d``. An array that is None counts as zero. A variance
    that rounding made negative counts as zero, and one of squares that overflowed as infinite.

    Parameters
    ----------
    p_P : ndarray of shape (P,), IN/OUT
        Parameters.
    g_P : ndarray of shape (P,), IN
        Gradient.
    square_P : ndarray of shape (P,), IN/OUT
        Running mean of the gradient's square.
    average_P : ndarray of shape (P,) or None, IN/OUT
        Running mean of the gradient (the centered form).
    momentum_P : ndarray of shape (P,) or None, IN/OUT
        Buffer b.
    lr, alpha, eps, weight_decay, momentum, grad_scale : float
    moved_K2 : ndarray of shape (ceil(P / 16384), 2), float64, or None, OUT
        As ``_measure_move`` says.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: RMSProp", Coursera 2012.
    Graves, "Generating Sequences With Recurrent Neural Networks", arXiv 1308.0850 (centered).
    """
    before_P = None if moved_K2 is None else p_P.copy()
    d_P = _decayed_gradient(p_P, g_P, weight_decay, grad_scale)
    square_P *= float(alpha)
    square_P += float(1 - alpha) * d_P * d_P
    variance_P = square_P
    if average_P is not None:
        average_P *= float(alpha)
        average_P += float(1 - alpha) * d_P
        variance_P = np.maximum(square_P - average_P * average_P, 0)
        variance_P = np.where(np.isposinf(square_P), square_P, variance_P)
    step_P = d_P / (np.sqrt(variance_P) + float(eps))
    if momentum_P is not None:
        momentum_P *= float(momentum)
        momentum_P += step_P
        step_P = momentum_P
    p_P -= float(lr) * step_P
    _measure_move(before_P, p_P, moved_K2)


def fill(x_P: Array, value: float) -> None:
    """Compute ``x = value``.

    Parameters
    ----------
    x_P : ndarray of shape (P,), OUT
    value : float
    """
    x_P[...] = value


def add(x_P: Array, y_P: Array) -> None:
    """Compute ``x = x + y``.

    Parameters
    ----------
    x_P : ndarray of shape (P,), IN/OUT
    y_P : ndarray of shape (P,), IN
    """
    x_P += y_P


def average(average_P: Array, p_P: Array, decay: float) -> None:
    """Compute ``average = average + (1 - decay) (p - average)``, a running mean of ``p``.

    Parameters
    ----------
    average_P : ndarray of shape (P,), IN/OUT
    p_P : ndarray of shape (P,), IN
    decay : float
        In [0, 1); with 0, the mean is ``p``.

    Notes
    -----
    What is added is rounded to nothing where ``p`` and its mean differ by less than about
    ``2^-25 / (1 - decay)`` of either: 3e-4 with decay 0.9999 in float32.
    """
    average_P += float(1.0 - decay) * (p_P - average_P)


def scale(x_P: Array, value: float) -> None:
    """Compute ``x = x value``, with the value rounded to the array's type first.

    Parameters
    ----------
    x_P : ndarray of shape (P,), IN/OUT
    value : float
    """
    x_P *= float(value)


def squared_norm(x_P: Array, partial_K: Array) -> None:
    """Compute the sum of squares of each block of 16384 elements, in float64.

    Parameters
    ----------
    x_P : ndarray of shape (P,), IN
    partial_K : ndarray of shape (ceil(P / 16384),), float64, OUT
        Their sum, taken in order, is the squared Euclidean norm of ``x``.
    """
    for k, start in enumerate(range(0, len(x_P), BLOCK)):
        partial_K[k] = np.square(x_P[start : start + BLOCK], dtype=np.float64).sum()


def _measure_move(before_P: Array | None, p_P: Array, moved_K2: Array | None) -> None:
    """Compute how far ``p`` has moved, unless ``moved_K2`` is None.

    ``moved_K2`` gets two sums of squares for each block of 16384 elements, in float64: of the
    changes of the elements, rounding included, and of the elements before the update.
    """
    if before_P is None or moved_K2 is None:
        return
    for k, start in enumerate(range(0, len(p_P), BLOCK)):
        part = slice(start, start + BLOCK)
        old_P = before_P[part].astype(np.float64)
        moved_K2[k, 0] = np.square(p_P[part] - old_P).sum()
        moved_K2[k, 1] = np.square(old_P).sum()


def _decayed_gradient(p_P: Array, g_P: Array, weight_decay: float, grad_scale: float) -> Array:
    """Return ``g grad_scale + weight_decay p`` as a new array."""
    d_P: Array = g_P * float(grad_scale)
    if weight_decay != 0:
        d_P += float(weight_decay) * p_P
    return d_P
