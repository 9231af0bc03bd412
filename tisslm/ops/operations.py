"""The built-in operations: compiled kernels for float32, NumPy twins for float64.

Each function has the arguments of its twin in ``tisslm.ops.reference``, where formula and shapes
are documented; arrays are C-contiguous and results go into arguments. Activations may be stored as
float16, or as uint16 with the bits of bfloat16. float64 always runs the twin, and
``TISSLM_OPS=reference`` makes everything run it (a build without kernels, or a doubt about one).

What does not live here: any computation, any check that a layer can do better because it knows the
name of what is wrong, and what is put around a kernel (``door``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError, ShapeError
from tisslm.ops.door import register
from tisslm.ops.reference import activation as _activation
from tisslm.ops.reference import attention as _attention
from tisslm.ops.reference import cross_entropy as _cross_entropy
from tisslm.ops.reference import dropout as _dropout
from tisslm.ops.reference import embedding as _embedding
from tisslm.ops.reference import linear as _linear
from tisslm.ops.reference import norm as _norm
from tisslm.ops.reference import optim as _optim
from tisslm.ops.reference import storage as _storage
from tisslm.ops.reference import summary as _summary

__all__ = [
    "ACTIVATIONS",
    "NORM_BLOCK",
    "activation_backward",
    "activation_forward",
    "adam_update",
    "add",
    "attention_backward",
    "attention_decode",
    "attention_entropy",
    "attention_forward",
    "cross_entropy_tile",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "exp_sum",
    "fill",
    "focal_tile",
    "global_norm",
    "layer_norm_apply",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_activation_forward",
    "linear_backward_input",
    "linear_backward_weight",
    "linear_forward",
    "linear_residual_forward",
    "matmul",
    "narrow",
    "norm_of_parts",
    "norm_parts",
    "norm_parts_bytes",
    "residual_forward",
    "rmsprop_update",
    "scale",
    "sgd_update",
    "softmax_gradient",
    "squared_norm",
    "summarize",
    "target_rank",
    "widen",
]

#: Codes of the activations that kernels know.
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1}


def _bad_token(code: int) -> DataError:
    return DataError(
        f"token ids: the id at flat position {code - 1} of the batch is outside the vocabulary. "
        "Use the tokenizer that the model was made for"
    )


def _bad_target(code: int) -> DataError:
    return DataError(
        f"targets: row {code - 1} of the tile is neither -100 nor an id of the vocabulary. "
        "Use the tokenizer that the model was made for"
    )


linear_forward = register(_linear.linear_forward)
linear_residual_forward = register(_linear.linear_residual_forward)
linear_activation_forward = register(_linear.linear_activation_forward)
linear_backward_input = register(_linear.linear_backward_input)
linear_backward_weight = register(_linear.linear_backward_weight)
_matmul = register(_linear.matmul)


def matmul(a_MK: NDArray[Any], b_KN: NDArray[Any], c_MN: NDArray[Any]) -> None:
    """Compute c = a b on all threads, with the same bits for any number of them.

    Parameters
    ----------
    a_MK, b_KN : ndarray of shape (M, K) and (K, N), float32 or float64, C-contiguous
    c_MN : ndarray of shape (M, N), same dtype, C-contiguous
        Overwritten.

    Raises
    ------
    ShapeError
        If shapes, types or layouts do not fit.
    """
    arrays = {"a": a_MK, "b": b_KN, "c": c_MN}
    shapes = ", ".join(f"{n} {x.shape} {x.dtype}" for n, x in arrays.items())
    fits = all(x.ndim == 2 and x.flags.c_contiguous and x.size for x in arrays.values())
    fits = fits and len({x.dtype for x in arrays.values()}) == 1 and a_MK.dtype.kind == "f"
    if fits:
        (M, K), N = a_MK.shape, b_KN.shape[1]
        fits = b_KN.shape == (K, N) and c_MN.shape == (M, N)
    if not fits:
        raise ShapeError(
            "matmul: expected C-contiguous a (M, K), b (K, N) and c (M, N) of one float type, "
            f"got {shapes}"
        )
    _matmul(a_MK, b_KN, c_MN)


layer_norm_forward = register(_norm.layer_norm_forward)
layer_norm_apply = register(_norm.layer_norm_apply)
layer_norm_backward = register(_norm.layer_norm_backward)

activation_forward = register(_activation.activation_forward)
activation_backward = register(_activation.activation_backward)

embedding_forward = register(_embedding.embedding_forward, on_code=_bad_token)
embedding_backward = register(_embedding.embedding_backward)

attention_forward = register(_attention.attention_forward)
attention_backward = register(_attention.attention_backward)
attention_decode = register(_attention.attention_decode)
attention_entropy = register(_attention.attention_entropy)

dropout_forward = register(_dropout.dropout_forward)
dropout_backward = register(_dropout.dropout_backward)
residual_forward = register(_dropout.residual_forward)


def narrow(x_NC: NDArray[Any], y_NC: NDArray[Any]) -> None:
    """Write ``x`` to ``y``, rounded to the type of ``y``."""
    dropout_forward(x_NC, y_NC, len(x_NC), 0.0, 0, 0, 0, 0)


def widen(x: NDArray[Any]) -> NDArray[Any]:
    """Return the values of an array of any storage type in float32 or float64."""
    return _storage.widen(x)


cross_entropy_tile = register(_cross_entropy.cross_entropy_tile, on_code=_bad_target)
focal_tile = register(_cross_entropy.focal_tile, on_code=_bad_target)
exp_sum = register(_cross_entropy.exp_sum)
softmax_gradient = register(_cross_entropy.softmax_gradient)
target_rank = register(_cross_entropy.target_rank, on_code=_bad_target)

sgd_update = register(_optim.sgd_update)
adam_update = register(_optim.adam_update)
rmsprop_update = register(_optim.rmsprop_update)
fill = register(_optim.fill)
add = register(_optim.add)
scale = register(_optim.scale)
squared_norm = register(_optim.squared_norm)
summarize = register(_summary.summarize)

NORM_BLOCK = 16384  # elements of one partial sum; the same number as in the kernel


def norm_parts(x_P: NDArray[Any]) -> NDArray[Any]:
    """Return an array for the partial sums of ``global_norm``, to be kept by whoever calls it."""
    return np.zeros(norm_parts_bytes(x_P.size) // 8)


def norm_parts_bytes(size: int) -> int:
    """Return the bytes of ``norm_parts`` for an array of ``size`` numbers."""
    return 8 * max(1, -(-size // NORM_BLOCK))


def global_norm(x_P: NDArray[Any], partial_K: NDArray[Any] | None = None) -> float:
    """Compute the Euclidean norm of a flat array, with partial sums in double precision.

    Parameters
    ----------
    x_P : ndarray of shape (P,), float32 or float64
    partial_K : ndarray, optional
        What ``norm_parts(x_P)`` returned, overwritten; left out, a new one.

    Returns
    -------
    float
        sqrt(sum x^2), the same bits for any number of threads.
    """
    partial_K = norm_parts(x_P) if partial_K is None else partial_K
    if not x_P.size:
        return 0.0
    squared_norm(x_P, partial_K)
    return norm_of_parts(partial_K)


def norm_of_parts(partial_K: NDArray[Any]) -> float:
    """Compute the root of the sum of what ``squared_norm`` has left, strictly in order.

    Parameters
    ----------
    partial_K : ndarray of shape (K,), float64
        At least one; overwritten.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the Trainer looks at the result
        np.add.accumulate(partial_K, out=partial_K)  # strictly in order
    total = float(partial_K[-1])
    return math.sqrt(total) if total >= 0.0 else math.nan
