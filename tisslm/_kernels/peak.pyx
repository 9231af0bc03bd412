"""The peak of this machine: multiplications in registers on all threads.

What every figure of the benchmarks is compared with, taken in the same run.
"""

import time

from cython.parallel cimport prange
from libc.stdint cimport int64_t

from tisslm._kernels.isa cimport table

ctypedef double (*loop_t)(int64_t, float *) noexcept nogil


cdef double chains(loop_t loop, int64_t repeats) noexcept nogil:
    """Run the loop on this thread; its sum is used, so that the compiler keeps it."""
    cdef float total = 0.0
    cdef double flops = loop(repeats, &total)
    return flops if total < 1e30 else 0.0


cdef double best_rate(loop_t loop, int n_threads, double seconds):
    cdef int64_t repeats = 100000
    cdef double flops, best = 0.0
    cdef int _thread
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        flops = 0.0
        start = time.perf_counter()
        for _thread in prange(n_threads, nogil=True, num_threads=n_threads, schedule='static',
                              chunksize=1):
            flops += chains(loop, repeats)
        took = time.perf_counter() - start
        if took < 0.02:
            repeats *= 2
        else:
            best = max(best, flops / took / 1e9)
    return best


def fma_gflops(int n_threads, double seconds):
    """Return the best rate over loops of at least 20 ms, in GFLOP/s, tried for ``seconds``."""
    return best_rate(table().fma_flops, n_threads, seconds)


def bf16_gflops(int n_threads, double seconds):
    """Return the same for products of bfloat16 pairs; 0 where the level has none."""
    if table().dot_flops == NULL:
        return 0.0
    return best_rate(table().dot_flops, n_threads, seconds)
