"""The compiled kernels of this process: loading them, their threads and scratch memory.

How many threads a machine gets is decided in ``threads``.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ConfigError, TissLMError
from tisslm.ops import threads
from tisslm.ops.caches import resolve_caches

__all__ = [
    "REFERENCE_ONLY",
    "compiled",
    "engine",
    "multiplies_bf16",
    "peak_gflops",
    "pool",
    "refuse_fork",
    "reserve_scratch",
    "set_threads",
    "thread_count",
    "thread_scratch_bytes",
    "watch_also",
    "watch_regions",
]

REFERENCE_ONLY = os.environ.get("TISSLM_OPS", "") == "reference"
if os.environ.get("TISSLM_OPS", "") not in ("", "reference"):
    raise ConfigError(
        f"TISSLM_OPS: expected 'reference' or nothing, got {os.environ['TISSLM_OPS']!r}"
    )


def compiled(module: str) -> Any:
    """Import a compiled kernel module; if it is missing, the error says how to build it."""
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
    """The threads of the process: their number, the reason for it, and their scratch memory."""

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
        """Return the sizes of one thread's scratch and of the whole, in float32 numbers."""
        floats = -(-max(floats, self._scratch_floats) // 16) * 16
        return floats, floats * self.chosen.count + 16

    def reserve(self, floats: int) -> None:
        """Allocate scratch, unless every thread has room for ``floats`` float32 numbers already."""
        floats, whole = self.scratch_floats(floats)
        block = np.zeros(whole, dtype=np.float32)
        start = (-block.ctypes.data % 64) // 4
        compiled("threads").bind_scratch(block[start:], floats)
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
        pool.reserve(0)
        caches = resolve_caches()
        compiled("isa").block_for(caches.level_1, caches.level_2)
        if compiled("isa").name() == "baseline":
            threads.limit_blas()
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


pool = _Pool()
if not REFERENCE_ONLY:
    _load_kernels()


def set_threads(requested: int | None = None) -> threads.ThreadCount:
    """Set the number of threads of all kernels in this process; results do not depend on it.

    Parameters
    ----------
    requested : int, optional
        From 1 to 64; None takes it from the environment or the machine.
    """
    with pool.lock:
        pool.chosen = threads.resolve_threads(requested)
        if not REFERENCE_ONLY:
            pool.reserve(0)
    return pool.chosen


def thread_count() -> threads.ThreadCount:
    """Return the number of threads in use and the reason for it."""
    return pool.chosen


def engine() -> dict[str, str]:
    """Return what the bits of a result depend on: the kernels' level and, with BLAS, its core."""
    if REFERENCE_ONLY:
        return {"ops": "reference", "numpy": np.__version__}
    level = str(compiled("isa").name())
    if level != "baseline":
        return {"ops": "compiled", "isa": level}
    from threadpoolctl import threadpool_info

    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    # Wheels bring one for NumPy and one for SciPy, in any order; kernels call SciPy's.
    pools = [p for p in pools if "scipy.libs" in Path(p["filepath"]).parts] or pools
    core = f"{pools[0]['version']} {pools[0].get('architecture')}" if len(pools) == 1 else "unknown"
    return {"ops": "compiled", "isa": level, "blas": core}


#: Kernel modules with parallel loops, which can be timed.
PARALLEL = (
    "activation", "attention", "cross_entropy", "dropout", "embedding", "gemm", "head_norm",
    "linear", "norm", "optim", "pooling", "rotary", "summary",
)  # fmt: skip


#: Files of the extension modules of plugins, which are timed likewise.
_plugin_files: list[str] = []


def watch_also(file: str) -> None:
    """Register another extension module, whose parallel loops are timed like the kernels'."""
    if file not in _plugin_files:
        _plugin_files.append(file)


def watch_regions(table: NDArray[np.int64] | None) -> bool:
    """Record for every thread when it begins and ends its share of each parallel loop.

    Parameters
    ----------
    table : ndarray of int64, or None
        Where to record. It begins with R, the number of regions that it has room for, T, the number
        of threads of each, the count of regions so far, which the reader sets to 0, the clock, such
        as ``time.CLOCK_MONOTONIC``, which ``time.perf_counter_ns`` reads, P, the number of parts
        that it has room for, and their count. R x (T + 1) pairs follow: begin and end in
        nanoseconds, both 0 where a thread took no part; the last pair is that of the caller. Then P
        times a region, the first turn of a part of its loop and how long it took, where loops are
        shared out as they run (``_kernels/c/regions.c``). None ends the recording.

    Returns
    -------
    bool
        Whether times will be recorded: the twins, and a build without OpenMP, have no threads.
    """
    watch = [] if REFERENCE_ONLY else [_watch_function(compiled(m).__file__) for m in PARALLEL]
    if not watch or None in watch:
        return False
    others = [_watch_function(file) for file in _plugin_files]
    with pool.lock:  # no kernel runs
        for function in filter(None, watch + others):
            function(None if table is None else table.ctypes.data)
        pool.regions = table  # which must live as long as it is written to
    return True


def _watch_function(file: str) -> Any:
    """Return the C function of an extension module; None where it was built without OpenMP."""
    function = getattr(ctypes.CDLL(file), "tiss_watch_regions", None)
    if function is not None:
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return function


def multiplies_bf16() -> bool:
    """Return True if this processor has instructions that multiply bfloat16."""
    return not REFERENCE_ONLY and bool(compiled("isa").multiplies_pairs())


_peaks: dict[tuple[str, int], float] = {}


def peak_gflops(precision: str, seconds: float = 0.1) -> float | None:
    """Measure the peak rate of multiply-adds in registers on all threads, once per process.

    Parameters
    ----------
    precision : {"fp32", "bf16", "fp16"}
        Type of the operands. Types that the processor does not multiply are widened to float32.
    seconds : float
        How long it may take.

    Returns
    -------
    float or None
        In GFLOP/s; None where products are not our own: the twins, and the baseline level.
    """
    if REFERENCE_ONLY or compiled("isa").name() == "baseline":
        return None
    pairs, count = precision == "bf16" and multiplies_bf16(), pool.chosen.count
    key = ("bf16" if pairs else "fp32", count)
    if key not in _peaks:
        refuse_fork("the processor's peak")
        peak = compiled("peak")
        with pool.lock:
            _peaks[key] = (peak.bf16_gflops if pairs else peak.fma_gflops)(count, seconds)
    return _peaks[key]


def _pass_floats(time: int, head_size: int, channels: int, stored: str) -> int:
    if REFERENCE_ONLY or stored == "float64":
        return 0
    isa = compiled("isa")
    attention = int(isa.attention_scratch(time, head_size, stored))
    return max(attention, int(isa.gemm_scratch(channels, stored)))


def reserve_scratch(time: int, head_size: int, channels: int, stored: str) -> None:
    """Allocate the threads' scratch for the passes of a model, before the first pass of a shape.

    Parameters
    ----------
    time, head_size, channels : int
        T, D and C.
    stored : str
        Type of the activations.
    """
    floats = _pass_floats(time, head_size, channels, stored)
    with pool.lock:
        if floats > pool.scratch_floats(0)[0]:
            pool.reserve(floats)


def thread_scratch_bytes(time: int, head_size: int, channels: int, stored: str) -> int:
    """Return the bytes of all threads' scratch once ``reserve_scratch`` was called."""
    if REFERENCE_ONLY:
        return 0
    floats = _pass_floats(time, head_size, channels, stored)
    with pool.lock:
        return int(4 * pool.scratch_floats(floats)[1])


def refuse_fork(where: str) -> None:
    """Raise TissLMError in a process that was forked from one that had loaded the kernels.

    Parameters
    ----------
    where : str
        What the message begins with.
    """
    if pool.forked and not REFERENCE_ONLY:
        raise TissLMError(
            f"{where}: this process was forked from one that loaded the kernels, whose threads "
            "do not survive a fork. Start processes with multiprocessing's 'spawn' method"
        )
