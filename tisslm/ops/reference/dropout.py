"""Twins of dropout and of the residual addition, and the counter-based generator of their masks.

Every draw is a pure function of (seed, update, site, sample, element), so that the same numbers
come out for any number of threads, ranks or micro-batches. ``__all__`` names the kernels' twins;
the generator below them is for the twins and their tests.

The dropout of attention probabilities, with the same generator, is in ``attention.py``.

References
----------
Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.storage import store, widen

__all__ = ["dropout_backward", "dropout_forward", "residual_forward"]

Array = NDArray[Any]

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as 32-bit fractions
ROUNDS = 10
LOW_32 = 0xFFFFFFFF


def dropout_forward(
    x_NC: Array,
    y_NC: Array,
    T: int,
    p: float,
    seed: int,
    update: int,
    site: int,
    first_row: int,
) -> None:
    """Compute ``y = x mask / (1 - p)``.

    Parameters
    ----------
    x_NC : ndarray of shape (B T, C), IN
    y_NC : ndarray of shape (B T, C), OUT
        May be the same array as ``x_NC``.
    T : int
        Rows of a sample; element ``t C + c`` of a sample has its own draw.
    p : float
        Probability of a zero, 0 <= p < 1.
    seed, update, site, first_row : int
        Key of the draw: the run's seed (64 bits), the update's number, the place in the model
        (16 bits), and the global index of the first sample.
    """
    store(y_NC, x_NC * _scaled_mask(x_NC, T, p, seed, update, site, first_row))


def dropout_backward(
    dy_NC: Array,
    dx_NC: Array,
    T: int,
    p: float,
    seed: int,
    update: int,
    site: int,
    first_row: int,
) -> None:
    """Compute ``dx = dy mask / (1 - p)``, with the mask of forward drawn again.

    Parameters
    ----------
    dy_NC : ndarray of shape (B T, C), IN
    dx_NC : ndarray of shape (B T, C), OUT
        May be the same array as ``dy_NC``.
    T, p, seed, update, site, first_row
        As in forward.
    """
    store(dx_NC, dy_NC * _scaled_mask(dy_NC, T, p, seed, update, site, first_row))


def residual_forward(
    h_NC: Array,
    y_NC: Array,
    T: int,
    p: float,
    seed: int,
    update: int,
    site: int,
    first_row: int,
) -> None:
    """Compute ``h = h + y mask / (1 - p)``; with p = 0, ``h = h + y``.

    Parameters
    ----------
    h_NC : ndarray of shape (B T, C), IN/OUT
        The residual stream.
    y_NC : ndarray of shape (B T, C), IN
    T, p, seed, update, site, first_row
        As in ``dropout_forward``.
    """
    h_NC += widen(y_NC) * _scaled_mask(h_NC, T, p, seed, update, site, first_row)


def _scaled_mask(
    like_NC: Array, T: int, p: float, seed: int, update: int, site: int, first_row: int
) -> Array:
    n_rows, n_channels = like_NC.shape
    keep = keep_mask(n_rows // T, T * n_channels, p, seed, update, site, first_row)
    scaled: Array = keep.reshape(like_NC.shape) * like_NC.dtype.type(1 / (1 - p))
    return scaled


# --------------------------------------------------------------------------- the generator


def keep_mask(
    n_samples: int,
    n_elements: int,
    p: float,
    seed: int,
    update: int,
    site: int,
    first_row: int,
) -> NDArray[np.bool_]:
    """Draw which elements are kept: those whose 32-bit word is at least ``floor(p 2^32)``.

    Element e of sample s is word ``e mod 4`` of the block with counter
    ``(e//4 mod 2^32, first_row + s, update, site | (e//4 >> 32) << 16)`` and the seed as key.

    Parameters
    ----------
    n_samples, n_elements : int
        Samples, and elements of each.
    p : float
        Probability of dropping an element, 0 <= p < 1.
    seed, update, site, first_row : int
        Key of the draw, as in ``dropout_forward``.

    Returns
    -------
    ndarray of bool of shape (n_samples, n_elements)
    """
    block = np.arange(-(-n_elements // 4), dtype=np.uint64)
    sample = np.arange(first_row, first_row + n_samples, dtype=np.uint64)[:, None]
    counter = (
        block & np.uint64(LOW_32),
        sample,
        np.uint64(update & LOW_32),
        np.uint64(site) | (block >> np.uint64(32)) << np.uint64(16),
    )
    words = philox4x32(counter, (seed & LOW_32, seed >> 32 & LOW_32))
    words_SE = np.stack(words, axis=-1).reshape(n_samples, -1)[:, :n_elements]
    return words_SE >= np.uint32(math.floor(p * 2**32))


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Array, ...]:
    """Encrypt a counter by ten rounds of Philox-4x32.

    Parameters
    ----------
    counter : four integers or arrays that broadcast
        Words below 2^32.
    key : two integers
        Words below 2^32.

    Returns
    -------
    tuple of four arrays of uint32
        Uniform words, a different four for every counter and key.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) for word in counter))
    shift, low = np.uint64(32), np.uint64(LOW_32)
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c2 = (second >> shift) ^ c1 ^ np.uint64(k0), (first >> shift) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & low, first & low
        k0, k1 = k0 + KEY_STEPS[0] & LOW_32, k1 + KEY_STEPS[1] & LOW_32
    return tuple(word.astype(np.uint32) for word in (c0, c1, c2, c3))
