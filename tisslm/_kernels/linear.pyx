"""Affine maps: y = x w^T + b, with activation.

Backward: dx = dy w; dw += dy^T x; db += sum over rows of dy.
Split: y, dx and dw by rows x columns (``gemm.pyx``); db by columns, each adding up blocks of 64
rows in order.
"""

from cython.parallel cimport prange

from tisslm._kernels.gemm cimport multiply
from tisslm._kernels.isa cimport tiss_gemm

cdef enum:
    ROWS = 64  # rows of one partial sum
    COLUMNS = 64  # columns that one thread sums at once


cdef tiss_gemm product(long m, long n, long k) noexcept nogil:
    cdef tiss_gemm g
    g.m = <int> m
    g.n = <int> n
    g.k = <int> k
    g.bias = NULL
    g.accumulate = 0
    g.activation = -1
    g.act = NULL
    return g


cdef void by_rows(tiss_gemm* g, const float[:, ::1] x_NC, const float[:, ::1] w_OC,
                  const float[::1] b_O, float[:, ::1] y_NO) noexcept nogil:
    g[0] = product(x_NC.shape[0], w_OC.shape[0], w_OC.shape[1])
    g.a, g.a_row, g.a_col = &x_NC[0, 0], x_NC.shape[1], 1
    g.b, g.b_row, g.b_col = &w_OC[0, 0], 1, w_OC.shape[1]
    g.c, g.c_row = &y_NO[0, 0], y_NO.shape[1]


def linear_forward(
    const float[:, ::1] x_NC,  # IN
    const float[:, ::1] w_OC,  # IN
    const float[::1] b_O,  # IN or None
    float[:, ::1] y_NO,  # OUT
    int n_threads,
):
    cdef tiss_gemm g
    by_rows(&g, x_NC, w_OC, b_O, y_NO)
    if b_O is not None:
        g.bias = &b_O[0]
    with nogil:
        multiply(&g, n_threads)


def linear_activation_forward(
    const float[:, ::1] x_NC,  # IN
    const float[:, ::1] w_OC,  # IN
    const float[::1] b_O,  # IN or None
    float[:, ::1] y_NO,  # OUT
    float[:, ::1] a_NO,  # OUT
    int activation,
    int n_threads,
):
    cdef tiss_gemm g
    by_rows(&g, x_NC, w_OC, b_O, y_NO)
    if b_O is not None:
        g.bias = &b_O[0]
    g.activation = activation
    g.act = &a_NO[0, 0]
    with nogil:
        multiply(&g, n_threads)


def linear_backward_input(
    const float[:, ::1] dy_NO,  # IN
    const float[:, ::1] w_OC,  # IN
    float[:, ::1] dx_NC,  # OUT
    int n_threads,
):
    matmul(dy_NO, w_OC, dx_NC, n_threads)


cdef void sum_columns(const float* dy, long n_rows, long n_columns, long first, float* db,
                      bint accumulate) noexcept nogil:
    """Column sums of up to COLUMNS columns: blocks of ROWS rows, added in block order."""
    cdef float total[COLUMNS]
    cdef float partial[COLUMNS]
    cdef long width = min(<long> COLUMNS, n_columns - first), start = 0, r, c
    cdef const float* row
    for c in range(width):
        total[c] = db[first + c] if accumulate else 0.0
    while start < n_rows:
        for c in range(width):
            partial[c] = 0.0
        for r in range(start, min(start + ROWS, n_rows)):
            row = dy + r * n_columns + first
            for c in range(width):
                partial[c] += row[c]
        for c in range(width):
            total[c] += partial[c]
        start += ROWS
    for c in range(width):
        db[first + c] = total[c]


def linear_backward_weight(
    const float[:, ::1] dy_NO,  # IN
    const float[:, ::1] x_NC,  # IN
    float[:, ::1] dw_OC,  # OUT, or IN and OUT with accumulate
    float[::1] db_O,  # OUT, or IN and OUT with accumulate, or None
    bint accumulate,
    int n_threads,
):
    cdef tiss_gemm g = product(dw_OC.shape[0], dw_OC.shape[1], x_NC.shape[0])
    cdef long block, n_rows = dy_NO.shape[0], n_columns = dy_NO.shape[1]
    cdef long blocks = (n_columns + COLUMNS - 1) // COLUMNS
    cdef float* db = NULL
    g.a, g.a_row, g.a_col = &dy_NO[0, 0], 1, dy_NO.shape[1]
    g.b, g.b_row, g.b_col = &x_NC[0, 0], x_NC.shape[1], 1
    g.c, g.c_row = &dw_OC[0, 0], dw_OC.shape[1]
    g.accumulate = accumulate
    if db_O is not None:
        db = &db_O[0]
    with nogil:
        multiply(&g, n_threads)
        if db != NULL:
            for block in prange(blocks, num_threads=n_threads, schedule='static'):
                sum_columns(&dy_NO[0, 0], n_rows, n_columns, block * COLUMNS, db, accumulate)


def matmul(
    const float[:, ::1] a_MK,  # IN
    const float[:, ::1] b_KN,  # IN
    float[:, ::1] c_MN,  # OUT
    int n_threads,
):
    cdef tiss_gemm g = product(a_MK.shape[0], b_KN.shape[1], a_MK.shape[1])
    g.a, g.a_row, g.a_col = &a_MK[0, 0], a_MK.shape[1], 1
    g.b, g.b_row, g.b_col = &b_KN[0, 0], b_KN.shape[1], 1
    g.c, g.c_row = &c_MN[0, 0], c_MN.shape[1]
    with nogil:
        multiply(&g, n_threads)
