"""Pooling: the rows of a text become one, their mean, the last of them, or the largest of each.

out[p] = sum of h[first[p]:stop[p]] / (stop[p] - first[p]); h[stop[p] - 1]; or max over the rows, of
which argmax keeps the first that has it. Backward: dh = d[p] / (stop[p] - first[p]); d[p] at the
last row; or d[p, c] at the row that argmax names; and 0 elsewhere.
h is stored as float32, bfloat16 or float16; its gradient and what is pooled are floats.
Split: texts times blocks of columns; in backward a text owns the rows without one before it, too,
and those behind the last are one more. A sum runs over the rows of a text in order, in blocks of
64. Limited by memory: the N C elements of h are read, or written, once.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from tisslm._kernels.arrays cimport array_t, at, extent, reads
from tisslm._kernels.isa cimport table
from tisslm._kernels.threads cimport FEW

cdef enum:
    COLUMNS = 256  # of a block
    MEAN = 0
    LAST = 1
    MAX = 2


cdef int64_t wrong(const int64_t[::1] first_P, const int64_t[::1] stop_P, long N) noexcept:
    """The code of the first text that is none, as the twin's documentation has it, or 0."""
    cdef int64_t p, end = 0
    for p in range(first_P.shape[0]):
        if stop_P[p] <= first_P[p]:
            return 2 + 3 * p
        if first_P[p] < 0 or stop_P[p] > N:
            return 3 + 3 * p
        if first_P[p] < end:
            return 4 + 3 * p
        end = stop_P[p]
    return 0


def pool_forward(
    hidden_NC,  # IN, stored
    const int64_t[::1] first_P,  # IN
    const int64_t[::1] stop_P,  # IN
    float[:, ::1] out_PC,  # OUT
    int kind,
    int32_t[:, ::1] argmax_PC or None,  # OUT with MAX
    int n_threads,
):
    cdef array_t h = reads(hidden_NC, 2)
    cdef long N = h.shape[0], C = h.shape[1], P = first_P.shape[0], unit
    cdef long blocks = (C + COLUMNS - 1) // COLUMNS
    cdef float* out
    cdef int32_t* places = NULL
    cdef int64_t code = wrong(first_P, stop_P, N)
    if code or not P:
        return code
    out = &out_PC[0, 0]
    if kind == MAX and argmax_PC is not None:
        places = &argmax_PC[0, 0]
    for unit in prange(P * blocks, nogil=True, num_threads=n_threads, schedule='dynamic',
                       use_threads_if=N * C > FEW):
        pool(&h, first_P[unit // blocks], stop_P[unit // blocks], unit % blocks * COLUMNS,
             out + unit // blocks * C, NULL if places == NULL else places + unit // blocks * C,
             kind)
    return 0


cdef void pool(const array_t* h, long first, long stop, long column, float* out, int32_t* places,
               int kind) noexcept nogil:
    """Pool a block of columns of one text; out and places are the text's rows."""
    cdef long C = h.shape[1]
    cdef int n = <int> min(COLUMNS, C - column)
    if kind == MAX:
        table().of[h.type].pool_max(at(h, first * C + column), C, <int32_t> (stop - first), n,
                                    out + column, NULL if places == NULL else places + column)
        return
    if kind == LAST:
        first = stop - 1
    memset(out + column, 0, n * sizeof(float))
    table().of[h.type].sum_rows(at(h, first * C + column), C, stop - first, n, out + column)
    table().scale(out + column, 1.0 / <float> (stop - first), n)


def pool_backward(
    const float[:, ::1] d_PC,  # IN
    const int64_t[::1] first_P,  # IN
    const int64_t[::1] stop_P,  # IN
    float[:, ::1] dh_NC,  # OUT
    int kind,
    const int32_t[:, ::1] argmax_PC or None,  # IN with MAX
    int n_threads,
):
    cdef long N = extent(dh_NC.shape[0]), C = dh_NC.shape[1], P = first_P.shape[0], unit, p
    cdef long blocks = (C + COLUMNS - 1) // COLUMNS
    cdef const float* d = NULL
    cdef const int32_t* places = NULL
    cdef int64_t code = wrong(first_P, stop_P, N)
    if kind == MAX and argmax_PC is None:
        code = 1
    if code:
        return code
    if P:
        d = &d_PC[0, 0]
    if P and kind == MAX:
        places = &argmax_PC[0, 0]
    for unit in prange((P + 1) * blocks, nogil=True, num_threads=n_threads, schedule='dynamic',
                       use_threads_if=N * C > FEW):
        p = unit // blocks
        clear(&dh_NC[0, 0], C, 0 if p == 0 else stop_P[p - 1], N if p == P else first_P[p],
              unit % blocks * COLUMNS)
        if p < P:
            spread(&dh_NC[0, 0], C, first_P[p], stop_P[p], unit % blocks * COLUMNS, d + p * C,
                   NULL if places == NULL else places + p * C, kind)
    return 0


cdef void clear(float* dh, long C, long first, long stop, long column) noexcept nogil:
    """Write zeros to a block of columns of some rows."""
    cdef long n
    for n in range(first, stop):
        memset(dh + n * C + column, 0, min(COLUMNS, C - column) * sizeof(float))


cdef void spread(float* dh, long C, long first, long stop, long column, const float* d,
                 const int32_t* places, int kind) noexcept nogil:
    """Write the gradient of a block of columns of one text; d and places are the text's rows."""
    cdef int n_columns = <int> min(COLUMNS, C - column)
    cdef float* top = dh + first * C + column
    cdef long n, c
    if kind == MAX:
        clear(dh, C, first, stop, column)
        for c in range(column, column + n_columns):
            if 0 <= places[c] < stop - first:
                dh[(first + places[c]) * C + c] = d[c]
    elif kind == LAST:
        clear(dh, C, first, stop - 1, column)
        memcpy(dh + (stop - 1) * C + column, d + column, n_columns * sizeof(float))
    else:
        memcpy(top, d + column, n_columns * sizeof(float))
        table().scale(top, 1.0 / <float> (stop - first), n_columns)
        for n in range(first + 1, stop):
            memcpy(dh + n * C + column, top, n_columns * sizeof(float))
