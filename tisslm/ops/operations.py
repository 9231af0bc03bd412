"""The only door to the kernels: compiled ones for float32, NumPy twins for float64.

Each function has the arguments of its twin in ``tisslm.ops.reference``, where formula and shapes
are documented; arrays are C-contiguous and results go into arguments. Activations may be stored as
float16, or as uint16 with the bits of bfloat16. float64 always runs the twin, and
``TISSLM_OPS=reference`` makes everything run it (a build without kernels, or a doubt about one).
Error codes of kernels become exceptions here.

What does not live here: any computation, any check that a layer can do better because it knows the
name of what is wrong, and the threads and scratch of kernels (``runtime``, whose names a user finds
here, too).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError, ShapeError
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
from tisslm.ops.runtime import (
    REFERENCE_ONLY,
    compiled,
    pool,
    refuse_fork,
)
from tisslm.ops.watchers import watchers

P = ParamSpec("P")

_KERNEL_TYPES = (np.dtype(np.float32), np.dtype(np.float16))

#: Codes of the activations that kernels know.
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1}


def _door(
    twin: Callable[P, Any], on_code: Callable[[int], Exception] | None = None
) -> Callable[P, None]:
    """Return the op that runs the twin, or its compiled counterpart where there is one.

    The first array among the arguments decides. ``on_code`` turns an error code into an
    exception.
    """
    module, name = twin.__module__.rpartition(".")[2], twin.__name__
    kernel = None if REFERENCE_ONLY else getattr(compiled(module), name)

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if kernel is None or not _has_kernel(args):
            return int(twin(*args, **kwargs) or 0)
        if pool.forked:
            refuse_fork(name)
        with pool.lock:  # the threads' scratch serves one kernel at a time
            code = _call(kernel, name, args, kwargs)
            if code and on_code is None:  # the scratch that it needs, in floats
                pool.reserve(code)
                code = _call(kernel, name, args, kwargs)
        return code

    @wraps(twin)
    def op(*args: P.args, **kwargs: P.kwargs) -> None:
        told = watchers()
        for watcher in told:
            watcher.before(name, args)
        code = run(args, kwargs)
        if code and on_code is not None:
            raise on_code(code)
        for watcher in told:
            watcher.after(name, args)

    return op


def _call(
    kernel: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> int:
    """Run a kernel on all threads and return its code; it counts rows and columns in 32 bits."""
    try:
        return int(kernel(*args, n_threads=pool.chosen.count, **kwargs) or 0)
    except OverflowError as error:
        raise ShapeError(
            f"{name}: {error}. Take fewer rows at a time, or a smaller model"
        ) from None


def _has_kernel(args: tuple[Any, ...]) -> bool:
    """Tell whether the first float array of an op's arguments is of a type that kernels know."""
    for value in args:
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            return value.dtype in _KERNEL_TYPES
    return True


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


linear_forward = _door(_linear.linear_forward)
linear_residual_forward = _door(_linear.linear_residual_forward)
linear_activation_forward = _door(_linear.linear_activation_forward)
linear_backward_input = _door(_linear.linear_backward_input)
linear_backward_weight = _door(_linear.linear_backward_weight)
_matmul = _door(_linear.matmul)


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


layer_norm_forward = _door(_norm.layer_norm_forward)
layer_norm_apply = _door(_norm.layer_norm_apply)
layer_norm_backward = _door(_norm.layer_norm_backward)

activation_forward = _door(_activation.activation_forward)
activation_backward = _door(_activation.activation_backward)

embedding_forward = _door(_embedding.embedding_forward, _bad_token)
embedding_backward = _door(_embedding.embedding_backward)

attention_forward = _door(_attention.attention_forward)
attention_backward = _door(_attention.attention_backward)
attention_decode = _door(_attention.attention_decode)
attention_entropy = _door(_attention.attention_entropy)

dropout_forward = _door(_dropout.dropout_forward)
dropout_backward = _door(_dropout.dropout_backward)
residual_forward = _door(_dropout.residual_forward)


def narrow(x_NC: NDArray[Any], y_NC: NDArray[Any]) -> None:
    """Write ``x`` to ``y``, rounded to the type of ``y``."""
    dropout_forward(x_NC, y_NC, len(x_NC), 0.0, 0, 0, 0, 0)


def widen(x: NDArray[Any]) -> NDArray[Any]:
    """Return the values of an array of any storage type in float32 or float64."""
    return _storage.widen(x)


cross_entropy_tile = _door(_cross_entropy.cross_entropy_tile, _bad_target)
focal_tile = _door(_cross_entropy.focal_tile, _bad_target)
exp_sum = _door(_cross_entropy.exp_sum)
softmax_gradient = _door(_cross_entropy.softmax_gradient)
target_rank = _door(_cross_entropy.target_rank, _bad_target)

sgd_update = _door(_optim.sgd_update)
adam_update = _door(_optim.adam_update)
rmsprop_update = _door(_optim.rmsprop_update)
fill = _door(_optim.fill)
scale = _door(_optim.scale)
squared_norm = _door(_optim.squared_norm)
summarize = _door(_summary.summarize)

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
    with np.errstate(over="ignore", invalid="ignore"):  # the Trainer looks at the result
        np.add.accumulate(partial_K, out=partial_K)  # strictly in order
    total = float(partial_K[-1])
    return math.sqrt(total) if total >= 0.0 else math.nan
