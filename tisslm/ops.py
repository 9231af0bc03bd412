"""The only door to the kernels: compiled ones for float32, NumPy twins for float64.

Each function has the arguments of its twin in ``tisslm._reference``, where formula and shapes
are documented; arrays are C-contiguous and results go into arguments. Activations may be stored as
float16, or as uint16 with the bits of bfloat16. float64 always runs the twin, and
``TISSLM_OPS=reference`` makes everything run it (a build without kernels, or a doubt about one).
Error codes of kernels become exceptions here.

What does not live here: any computation, and any check that a layer can do better because it
knows the name of what is wrong.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from tisslm import threads
from tisslm._reference import activation as _activation
from tisslm._reference import attention as _attention
from tisslm._reference import cross_entropy as _cross_entropy
from tisslm._reference import dropout as _dropout
from tisslm._reference import embedding as _embedding
from tisslm._reference import linear as _linear
from tisslm._reference import norm as _norm
from tisslm._reference import optim as _optim
from tisslm._reference import storage as _storage
from tisslm._reference import summary as _summary
from tisslm.errors import ConfigError, DataError, ShapeError, TissLMError
from tisslm.watching import Watcher as Watcher
from tisslm.watching import watchers
from tisslm.watching import watching as watching

P = ParamSpec("P")

_KERNEL_TYPES = (np.dtype(np.float32), np.dtype(np.float16))

#: Codes of the activations that kernels know.
ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1}

REFERENCE_ONLY = os.environ.get("TISSLM_OPS", "") == "reference"
if os.environ.get("TISSLM_OPS", "") not in ("", "reference"):
    raise ConfigError(
        f"TISSLM_OPS: expected 'reference' or nothing, got {os.environ['TISSLM_OPS']!r}"
    )


def _compiled(module: str) -> Any:
    """Import a kernel module, or say how to get it."""
    try:
        return importlib.import_module(f"tisslm._kernels.{module}")
    except ModuleNotFoundError as error:
        raise TissLMError(
            f"the compiled kernels are not built ({error}); run 'pip install .' in the source "
            "folder, or set TISSLM_OPS=reference to use the slow NumPy twins"
        ) from None
    except ImportError as error:  # a level of TISSLM_ISA that is not there
        raise ConfigError(str(error)) from None


class _Pool:
    """The process's threads: how many, why, and their scratch."""

    def __init__(self) -> None:
        self.chosen = threads.resolve_threads()
        self.forked = False
        self.regions: NDArray[np.int64] | None = None
        self.lock = threading.Lock()
        self._scratch_floats = 0
        os.register_at_fork(after_in_child=self._mark_forked)

    def _mark_forked(self) -> None:
        self.forked = True
        self.lock = threading.Lock()  # the old one may be held by a thread that is not here

    def scratch_floats(self, floats: int) -> tuple[int, int]:
        """Return the float32 of each thread and of the block, if each thread needs ``floats``."""
        floats = -(-max(floats, self._scratch_floats) // 16) * 16
        return floats, floats * self.chosen.count + 16

    def reserve(self, floats: int) -> None:
        """Make sure that every thread has ``floats`` float32 of scratch."""
        floats, whole = self.scratch_floats(floats)
        block = np.zeros(whole, dtype=np.float32)
        start = (-block.ctypes.data % 64) // 4
        _compiled("threads").bind_scratch(block[start:], floats)
        self._scratch_floats = floats


#: Turns of a waiting thread's loop before it sleeps. libgomp's own 300,000 cost a factor of 14
#: to 50 when another process wants the same cores; at 1000 an idle machine loses nothing
#: (docs/experiments.md).
SPIN_COUNT = "1000"


def _load_kernels() -> None:
    """Load OpenMP's runtime with a short spin, unless the user chose how threads wait."""
    chosen = any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT  # read once, when the library is loaded
    try:
        _pool.reserve(0)
        if _compiled("isa").name() == "baseline":
            threads.limit_blas()
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


_pool = _Pool()
if not REFERENCE_ONLY:
    _load_kernels()


def set_threads(requested: int | None = None) -> threads.ThreadCount:
    """Choose the number of threads for every kernel of this process; results do not depend on it.

    Parameters
    ----------
    requested : int, optional
        From 1 to 64; None asks the environment and the machine.
    """
    with _pool.lock:
        _pool.chosen = threads.resolve_threads(requested)
        if not REFERENCE_ONLY:
            _pool.reserve(0)
    return _pool.chosen


def thread_count() -> threads.ThreadCount:
    """Return the number of threads in use and the reason for it."""
    return _pool.chosen


def engine() -> dict[str, str]:
    """Name what the bits of a result depend on: level of the kernels and, with BLAS, its core."""
    if REFERENCE_ONLY:
        return {"ops": "reference", "numpy": np.__version__}
    level = str(_compiled("isa").name())
    if level != "baseline":
        return {"ops": "compiled", "isa": level}
    from threadpoolctl import threadpool_info

    pools = [p for p in threadpool_info() if p["user_api"] == "blas" and "scipy" in p["filepath"]]
    core = f"{pools[0]['version']} {pools[0].get('architecture')}" if pools else "unknown"
    return {"ops": "compiled", "isa": level, "blas": core}


#: Modules with parallel loops, whose threads can be watched.
_PARALLEL = (
    "activation", "attention", "cross_entropy", "dropout", "embedding", "gemm", "linear", "norm",
    "optim",
)  # fmt: skip


def watch_regions(table: NDArray[np.int64] | None) -> bool:
    """Have every thread stamp when it begins and ends its share of a kernel's parallel loop.

    Parameters
    ----------
    table : ndarray of int64, or None
        Room for R regions, threads for each T, the count of regions (the reader's to set to 0),
        then R x T pairs of begin and end in the nanoseconds of ``time.perf_counter_ns``; 0 and 0
        where a thread took no part. The format is that of ``_kernels/c/regions.c``. None: no more
        stamps.

    Returns
    -------
    bool
        Whether there will be stamps: the twins, and a build without OpenMP, have no threads.
    """
    watch = [] if REFERENCE_ONLY else [_watch_function(module) for module in _PARALLEL]
    if not watch or None in watch:
        return False
    with _pool.lock:  # no kernel runs
        for function in watch:
            function(None if table is None else table.ctypes.data)
        _pool.regions = table  # which must live as long as it is written to
    return True


def _watch_function(module: str) -> Any:
    """Return the C function of an extension module; None where it was built without OpenMP."""
    function = getattr(ctypes.CDLL(_compiled(module).__file__), "tiss_watch_regions", None)
    if function is not None:
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return function


def multiplies_bf16() -> bool:
    """Tell whether this processor multiplies bfloat16 itself, so that bf16 is also faster."""
    return not REFERENCE_ONLY and bool(_compiled("isa").multiplies_pairs())


_peaks: dict[tuple[str, int], float] = {}


def peak_gflops(precision: str, seconds: float = 0.1) -> float | None:
    """Measure how fast all threads together multiply and add in registers, once per process.

    Parameters
    ----------
    precision : {"fp32", "bf16", "fp16"}
        Of the operands; those that the processor does not multiply are widened, and so float32's.
    seconds : float
        How long it may take.

    Returns
    -------
    float or None
        In GFLOP/s; None where products are not our own: the twins, and the baseline level.
    """
    if REFERENCE_ONLY or _compiled("isa").name() == "baseline":
        return None
    pairs, count = precision == "bf16" and multiplies_bf16(), _pool.chosen.count
    key = ("bf16" if pairs else "fp32", count)
    if key not in _peaks:
        refuse_fork("the processor's peak")
        peak = _compiled("peak")
        with _pool.lock:
            _peaks[key] = (peak.bf16_gflops if pairs else peak.fma_gflops)(count, seconds)
    return _peaks[key]


def _pass_floats(time: int, head_size: int, group: int, channels: int, stored: str) -> int:
    if REFERENCE_ONLY or stored == "float64":
        return 0
    isa = _compiled("isa")
    attention = int(isa.attention_scratch(time, head_size, group, stored))
    return max(attention, int(isa.gemm_scratch(channels, stored)))


def reserve_scratch(time: int, head_size: int, group: int, channels: int, stored: str) -> None:
    """Make the threads' scratch for the passes of a model, once before the first of a shape.

    Parameters
    ----------
    time, head_size, group, channels : int
        T, D, the query heads that share one key head, and C.
    stored : str
        Type of the activations.
    """
    floats = _pass_floats(time, head_size, group, channels, stored)
    with _pool.lock:
        if floats > _pool.scratch_floats(0)[0]:
            _pool.reserve(floats)


def thread_scratch_bytes(time: int, head_size: int, group: int, channels: int, stored: str) -> int:
    """Return the bytes of all threads' scratch once ``reserve_scratch`` was called."""
    if REFERENCE_ONLY:
        return 0
    floats = _pass_floats(time, head_size, group, channels, stored)
    with _pool.lock:
        return int(4 * _pool.scratch_floats(floats)[1])


def refuse_fork(where: str) -> None:
    """Raise TissLMError in a process that was forked from one that had loaded the kernels.

    Parameters
    ----------
    where : str
        What message begins with.
    """
    if _pool.forked and not REFERENCE_ONLY:
        raise TissLMError(
            f"{where}: this process was forked from one that loaded the kernels, whose threads "
            "do not survive a fork. Start processes with multiprocessing's 'spawn' method"
        )


def _door(
    twin: Callable[P, Any], on_code: Callable[[int], Exception] | None = None
) -> Callable[P, None]:
    """Return the op that runs the twin, or its compiled counterpart where there is one.

    The first array among the arguments decides. ``on_code`` turns an error code into an
    exception.
    """
    module, name = twin.__module__.rpartition(".")[2], twin.__name__
    kernel = None if REFERENCE_ONLY else getattr(_compiled(module), name)

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if kernel is None or not _has_kernel(args):
            return int(twin(*args, **kwargs) or 0)
        if _pool.forked:
            refuse_fork(name)
        with _pool.lock:  # the threads' scratch serves one kernel at a time
            code = int(kernel(*args, n_threads=_pool.chosen.count, **kwargs) or 0)
            if code and on_code is None:  # the scratch that it needs, in floats
                _pool.reserve(code)
                code = int(kernel(*args, n_threads=_pool.chosen.count, **kwargs) or 0)
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
log_sum_exp = _door(_cross_entropy.log_sum_exp)
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
