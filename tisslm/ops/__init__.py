"""Every operation on arrays, with the threads and scratch of its kernels.

Formulas and shapes are documented with the NumPy twins, in ``tisslm.ops.reference``.
"""

from tisslm.ops import operations
from tisslm.ops.door import register
from tisslm.ops.operations import *  # noqa: F403 (one list of operations is enough)
from tisslm.ops.runtime import (
    REFERENCE_ONLY,
    engine,
    multiplies_bf16,
    peak_gflops,
    refuse_fork,
    reserve_scratch,
    set_threads,
    thread_count,
    thread_scratch_bytes,
    watch_regions,
)
from tisslm.ops.watchers import Watcher, watching

__all__ = [
    "REFERENCE_ONLY",
    "Watcher",
    "engine",
    "multiplies_bf16",
    "peak_gflops",
    "refuse_fork",
    "register",
    "reserve_scratch",
    "set_threads",
    "thread_count",
    "thread_scratch_bytes",
    "watch_regions",
    "watching",
]
__all__ += operations.__all__
