"""The built-in operations: compiled kernels for float32, NumPy twins for float64.

Each public function of a module of ``tisslm.ops.reference`` is one, with the arguments of this
twin, where formula and shapes are documented; arrays are C-contiguous and results go into
arguments. Activations may be stored as float16, or as uint16 with the bits of bfloat16. float64
always runs the twin, and ``TISSLM_OPS=reference`` makes everything run it (a build without kernels,
or a doubt about one).

What does not live here: any computation, any check that a layer can do better because it knows the
name of what is wrong, and what is put around a kernel (``door``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from tisslm.ops.reference import head_norm as _head_norm
from tisslm.ops.reference import linear as _linear
from tisslm.ops.reference import norm as _norm
from tisslm.ops.reference import optim as _optim
from tisslm.ops.reference import pooling as _pooling
from tisslm.ops.reference import rotary as _rotary
from tisslm.ops.reference import storage as _storage
from tisslm.ops.reference import summary as _summary
from tisslm.ops.threads import MAX_THREADS

__all__ = [
    "ACTIVATIONS",
    "BUILT_IN",
    "NORM_BLOCK",
    "POOLINGS",
    "dkv_shape",
    "global_norm",
    "matmul",
    "narrow",
    "norm_of_parts",
    "norm_parts",
    "norm_parts_bytes",
    "store",
    "widen",
]

#: Codes of the activations that kernels know.
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "silu": 2, "relu2": 3}

#: Codes of the ways to make one row of a text's.
POOLINGS = {"mean": _pooling.MEAN, "last": _pooling.LAST, "max": _pooling.MAX}

_WRONG_TEXTS = (
    "expected at least one row, got an empty range. Leave texts without tokens out",
    "expected rows of the batch, got some that it does not have. Count first_P and stop_P in rows "
    "of all texts together",
    "expected it to begin where the text before it ends, or later, got an earlier row. Give the "
    "texts in the order of their rows",
)


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


def _no_room(code: int) -> ShapeError:
    return ShapeError(
        "attention_backward: dkv_M2TD: expected room for the query heads that share a key head, "
        "got less. Make it of the shape that ops.dkv_shape returns"
    )


def _no_text(code: int) -> ShapeError:
    if code == _pooling.NO_PLACES:
        return ShapeError(
            "pool_backward: argmax_PC: expected the places of the largest values, got None. Hand "
            "over the array that pool_forward has filled"
        )
    text, what = divmod(code - _pooling.FIRST_TEXT, len(_WRONG_TEXTS))
    return ShapeError(f"pooling: text {text}: {_WRONG_TEXTS[what]}")


#: The modules of twins, by the part of a training step that a profile counts their operations to.
#: Rotary positions take the place of the embedding's table of them, and are limited by memory as
#: that is; attention is limited by products; what is pooled is what a loss sees.
_MODULES = {
    "products": (_linear,),
    "norms": (_norm, _head_norm),
    "activation": (_activation,),
    "embedding": (_embedding, _rotary),
    "attention": (_attention,),
    "residual": (_dropout,),
    "loss": (_cross_entropy, _pooling),
    "optimizer": (_optim,),
    "monitors": (_summary,),
}
#: Operations of another part than their module's.
_ELSEWHERE = {"attention_entropy": "monitors"}

#: What a positive code of a kernel means.
_ON_CODE = {
    "attention_backward": _no_room,
    "embedding_forward": _bad_token,
    "cross_entropy_tile": _bad_target,
    "focal_tile": _bad_target,
    "pool_backward": _no_text,
    "pool_forward": _no_text,
    "target_rank": _bad_target,
}

#: An operation for every public function of a twin's module.
BUILT_IN: dict[str, Callable[..., None]] = {
    name: register(
        getattr(module, name), on_code=_ON_CODE.get(name), part=_ELSEWHERE.get(name, part)
    )
    for part, modules in _MODULES.items()
    for module in modules
    for name in module.__all__
}


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
    shapes = ", ".join(
        f"{n} {x.shape} {x.dtype}" if isinstance(x, np.ndarray) else f"{n} {x!r:.50}"
        for n, x in arrays.items()
    )
    fits = all(isinstance(x, np.ndarray) for x in arrays.values())
    fits = fits and all(x.ndim == 2 and x.flags.c_contiguous and x.size for x in arrays.values())
    fits = fits and len({x.dtype for x in arrays.values()}) == 1 and a_MK.dtype.kind == "f"
    if fits:
        (M, K), N = a_MK.shape, b_KN.shape[1]
        fits = b_KN.shape == (K, N) and c_MN.shape == (M, N)
    if not fits:
        raise ShapeError(
            "matmul: expected C-contiguous a (M, K), b (K, N) and c (M, N) of one float type, "
            f"got {shapes}"
        )
    BUILT_IN["matmul"](a_MK, b_KN, c_MN)


def dkv_shape(
    batch: int, time: int, n_head: int, n_kv_head: int, head_size: int
) -> tuple[int, int, int, int] | None:
    """Return the shape of what ``attention_backward`` wants for dk and dv of query heads.

    M query heads of the batch are worked on at a time, whole groups of G = H / K: all of them, or,
    where there are many, at least 64, so that no thread waits, and less than 128 + G, which
    bounds the memory. Bits depend on neither.

    Returns
    -------
    tuple of int or None
        (M, 2, T, D); None where no two query heads share a key head, and none is wanted.
    """
    group, shared = n_head // n_kv_head, batch * n_kv_head
    if group == 1:
        return None
    turns = max(1, shared * group // MAX_THREADS)
    return -(-shared // turns) * group, 2, time, head_size


def narrow(x_NC: NDArray[Any], y_NC: NDArray[Any]) -> None:
    """Write ``x`` to ``y``, rounded to the type of ``y``."""
    BUILT_IN["dropout_forward"](x_NC, y_NC, len(x_NC), 0.0, 0, 0, 0, 0)


def store(out: NDArray[Any], values: NDArray[Any]) -> None:
    """Write float32 or float64 to an array of any storage type, rounded, of any shape."""
    _storage.store(out, values)


def widen(x: NDArray[Any]) -> NDArray[Any]:
    """Return the values of an array of any storage type in float32 or float64."""
    return _storage.widen(x)


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
    BUILT_IN["squared_norm"](x_P, partial_K)
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
