"""Rotary positions: each pair (i, i + R) of a q or k head is turned by the angle of its position.

a' = a cos - b sin, b' = b cos + a sin, by tables of cos and sin with a row for each position: that
of token t is position + t - start[t]. Backward turns the gradient back: the same with -sin.
qkv and its result are stored alike, as float32, bfloat16 or float16, and may be one array; numbers
are rounded once.
Split: rows, that is tokens. Limited by memory: per token E elements are read and written, and the
two R floats of a position serve all heads.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t

from tisslm._kernels.arrays cimport alike, array_t, at, extent, floats, integers, reads, writes
from tisslm._kernels.isa cimport table
from tisslm._kernels.threads cimport FEW


cdef int turn(object x_BTE, object cos_PR, object sin_PR, float sign, object y_BTE, int n_head,
              int n_kv_head, long position, object start_BT, int n_threads) except -1:
    """Write x, turned by `sign` times its angles, to y."""
    cdef array_t x = reads(x_BTE, 3), y = writes(y_BTE, 3)
    cdef array_t cosines = floats(cos_PR, 2), sines = floats(sin_PR, 2)
    cdef long T = x.shape[1], E = x.shape[2], n, place
    cdef int D = extent(E // (n_head + 2 * n_kv_head)), R = <int> cosines.shape[1]
    cdef const int32_t* start = NULL if start_BT is None else integers(start_BT, 2)
    alike(&x, &y)
    for n in prange(x.shape[0] * T, nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=x.shape[0] * T * E > FEW):
        place = position + n % T - (0 if start == NULL else start[n])
        table().of[x.type].rotate(at(&x, n * E), cosines.floats + place * R,
                                  sines.floats + place * R, sign, <void*> at(&y, n * E),
                                  n_head + n_kv_head, n_kv_head, D, R)
    return 0


def rotary_forward(
    qkv_BTE,  # IN, stored
    cos_PR,  # IN
    sin_PR,  # IN
    out_BTE,  # OUT, stored; may be qkv_BTE
    int n_head,
    int n_kv_head,
    long position,
    start_BT,  # IN, or None
    int n_threads,
):
    turn(qkv_BTE, cos_PR, sin_PR, 1.0, out_BTE, n_head, n_kv_head, position, start_BT, n_threads)


def rotary_backward(
    dout_BTE,  # IN, stored
    cos_PR,  # IN
    sin_PR,  # IN
    dqkv_BTE,  # OUT, stored; may be dout_BTE
    int n_head,
    int n_kv_head,
    long position,
    start_BT,  # IN, or None
    int n_threads,
):
    turn(dout_BTE, cos_PR, sin_PR, -1.0, dqkv_BTE, n_head, n_kv_head, position, start_BT,
         n_threads)
