"""Affine maps: y = x w^T + b, with activation, or added to the residual stream.

Backward: dx = dy w; dw += dy^T x; db += sum over rows of dy.
Activations (x, y, dy, dx) are stored as float32, bfloat16 or float16; weights and their gradients
are float32.
Split: y, dx and dw by rows x columns (``gemm.pyx``), in ``linear_backward`` dx beside dw; db by
columns, each adding up blocks of 64 rows in order. ``linear_decode`` is for the few rows of decoded
tokens: nothing is packed, blocks of the weight's rows are split, and each row of y has the bits
that it has alone.
What has ``columns`` in its name works on O neighbouring columns of wider rows, from ``first`` on,
where a product has several maps side by side.
The others return 0, or -n where they need n floats of scratch per thread and do not have them.
"""

from cython.parallel cimport prange

from tisslm._kernels.arrays cimport (
    alike,
    array_t,
    at,
    floats,
    floats_out,
    nothing,
    reads,
    writes,
)
from tisslm._kernels.gemm cimport (
    SUMS,
    multiply,
    multiply_and_sum,
    multiply_both,
    sum_columns,
)
from tisslm._kernels.isa cimport TISS_F32, table, tiss_gemm

cdef enum:
    # Rows of a weight that one thread multiplies at once, at most: where it begins anew, memory has
    # not been asked for what comes, which costs half a microsecond.
    OUTPUTS = 512
    NEAR = 16  # rows that linear_decode.inc takes together
    # Bytes of a weight that one thread has read, at the 20 to 35 GB/s of one core, before it is
    # worth waking others and waiting for the last of them.
    ALONE = 1048576


cdef tiss_gemm product(const array_t* a, bint a_columns, const array_t* b, bint b_columns,
                       const array_t* c) noexcept nogil:
    """C = A B; with a_columns the array holds A^T, with b_columns B^T."""
    cdef tiss_gemm g
    g.m = <int> c.shape[0]
    g.n = <int> c.shape[1]
    g.k = <int> (a.shape[0] if a_columns else a.shape[1])
    g.a, g.a_type = a.data, a.type
    g.b, g.b_type = b.data, b.type
    g.c, g.c_type, g.c_row = c.data, c.type, c.shape[1]
    g.a_row, g.a_col = a.shape[1], 1
    g.b_row, g.b_col = b.shape[1], 1
    if a_columns:
        g.a_row, g.a_col = 1, a.shape[1]
    if b_columns:
        g.b_row, g.b_col = 1, b.shape[1]
    g.bias = NULL
    g.accumulate = 0
    g.activation = -1
    g.act = NULL
    return g


def linear_forward(
    x_NC,  # IN, stored
    w_OC,  # IN
    b_O,  # IN or None
    y_NO,  # OUT, stored
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), w = reads(w_OC, 2), y = writes(y_NO, 2)
    cdef tiss_gemm g = product(&x, False, &w, True, &y)
    cdef long needed
    g.bias = NULL if b_O is None else floats(b_O, 1).floats
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def linear_residual_forward(
    x_NC,  # IN, stored
    w_OC,  # IN
    b_O,  # IN or None
    h_NO,  # IN and OUT
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), w = reads(w_OC, 2), h = floats_out(h_NO, 2)
    cdef tiss_gemm g = product(&x, False, &w, True, &h)
    cdef long needed
    g.accumulate = 1
    g.bias = NULL if b_O is None else floats(b_O, 1).floats
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def linear_activation_forward(
    x_NC,  # IN, stored
    w_OC,  # IN
    b_O,  # IN or None
    y_NO,  # OUT, stored
    a_NO,  # OUT, stored as y
    int activation,
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), w = reads(w_OC, 2), y = writes(y_NO, 2), a = writes(a_NO, 2)
    cdef tiss_gemm g = product(&x, False, &w, True, &y)
    cdef long needed
    g.bias = NULL if b_O is None else floats(b_O, 1).floats
    g.activation = activation
    g.act = a.data
    alike(&y, &a)
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def linear_decode(
    x_NC,  # IN
    w_OC,  # IN, stored
    b_O,  # IN or None
    y_NO,  # OUT
    int n_threads,
):
    cdef array_t w = reads(w_OC, 2), x = floats(x_NC, 2), y = floats_out(y_NO, 2)
    cdef long rows = w.shape[0], C = w.shape[1], N = x.shape[0], block, first, numbers = rows * C
    # as many for each thread, so that none waits for another's last
    cdef long cuts = n_threads * ((rows + n_threads * OUTPUTS - 1) // (n_threads * OUTPUTS))
    cdef long outputs = ((rows + cuts - 1) // cuts + NEAR - 1) // NEAR * NEAR
    cdef long blocks = (rows + outputs - 1) // outputs
    cdef const float* b = NULL if b_O is None else floats(b_O, 1).floats
    cdef long nbytes = numbers * (4 if w.type == TISS_F32 else 2)
    for block in prange(blocks, nogil=True, num_threads=n_threads, schedule='dynamic', chunksize=1,
                        use_threads_if=nbytes > ALONE or numbers * N > 2 * ALONE):
        first = block * outputs
        table().of[w.type].linear_decode(x.floats, N, <int> C, at(&w, first * C),
                                         <int> min(outputs, rows - first),
                                         NULL if b == NULL else b + first, y.floats + first, rows)
    return 0


def linear_backward_input(
    dy_NO,  # IN, stored
    w_OC,  # IN
    dx_NC,  # OUT, stored
    int n_threads,
):
    return matmul(dy_NO, w_OC, dx_NC, n_threads)


def linear_backward_weight(
    dy_NO,  # IN, stored
    x_NC,  # IN, stored
    dw_OC,  # OUT, or IN and OUT with accumulate, or None
    db_O,  # OUT, or IN and OUT with accumulate, or None
    bint accumulate,
    int n_threads,
):
    cdef array_t dy = reads(dy_NO, 2), x = reads(x_NC, 2)
    cdef array_t dw = nothing() if dw_OC is None else writes(dw_OC, 2)
    cdef tiss_gemm g = product(&dy, True, &x, False, &dw)
    cdef long block, needed = 0, blocks = (dy.shape[1] + SUMS - 1) // SUMS
    cdef float* db = NULL if db_O is None else floats_out(db_O, 1).floats
    g.accumulate = accumulate
    with nogil:
        if dw.data != NULL:
            needed = multiply_and_sum(&g, &dy, db, accumulate, n_threads)
        elif db != NULL:
            for block in prange(blocks, num_threads=n_threads, schedule='static'):
                sum_columns(&dy, block * SUMS, db, accumulate)
    return -needed


def linear_backward(
    dy_NO,  # IN, stored
    w_OC,  # IN
    x_NC,  # IN, stored
    dx_NC,  # OUT, stored
    dw_OC,  # OUT, or IN and OUT with accumulate
    db_O,  # OUT, or IN and OUT with accumulate, or None
    bint accumulate,
    int n_threads,
):
    cdef array_t dy = reads(dy_NO, 2), w = reads(w_OC, 2), x = reads(x_NC, 2)
    cdef array_t dx = writes(dx_NC, 2), dw = writes(dw_OC, 2)
    cdef tiss_gemm g = product(&dy, False, &w, False, &dx), h = product(&dy, True, &x, False, &dw)
    cdef float* db = NULL if db_O is None else floats_out(db_O, 1).floats
    cdef long needed
    h.accumulate = accumulate
    with nogil:
        needed = multiply_both(&g, &h, &dy, db, accumulate, n_threads)
    return -needed


def linear_add_columns(
    x_NC,  # IN, stored
    w_OC,  # IN
    y_NE,  # IN and OUT, stored
    int first,
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), w = reads(w_OC, 2), y = writes(y_NE, 2)
    cdef tiss_gemm g = product(&x, False, &w, True, &y)
    cdef long needed
    g.c, g.n = <void*> at(&y, first), w.shape[0]
    g.accumulate = 1
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def linear_columns_backward_input(
    dy_NE,  # IN, stored
    w_OC,  # IN
    dx_NC,  # OUT, stored
    int first,
    int n_threads,
):
    cdef array_t dy = reads(dy_NE, 2), w = reads(w_OC, 2), dx = writes(dx_NC, 2)
    cdef tiss_gemm g = product(&dy, False, &w, False, &dx)
    cdef long needed
    g.a, g.k = at(&dy, first), w.shape[0]
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def linear_columns_backward_weight(
    dy_NE,  # IN, stored
    x_NC,  # IN, stored
    dw_OC,  # OUT, or IN and OUT with accumulate
    int first,
    bint accumulate,
    int n_threads,
):
    cdef array_t dy = reads(dy_NE, 2), x = reads(x_NC, 2), dw = writes(dw_OC, 2)
    cdef tiss_gemm g = product(&dy, True, &x, False, &dw)
    cdef long needed
    g.a = at(&dy, first)
    g.accumulate = accumulate
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def linear_add_backward_input(
    dy_NO,  # IN, stored
    w_OC,  # IN
    dx_NC,  # IN and OUT, stored
    int n_threads,
):
    cdef array_t dy = reads(dy_NO, 2), w = reads(w_OC, 2), dx = writes(dx_NC, 2)
    cdef tiss_gemm g = product(&dy, False, &w, False, &dx)
    cdef long needed
    g.accumulate = 1
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed


def matmul(
    a_MK,  # IN, stored
    b_KN,  # IN, stored
    c_MN,  # OUT, stored
    int n_threads,
):
    cdef array_t a = reads(a_MK, 2), b = reads(b_KN, 2), c = writes(c_MN, 2)
    cdef tiss_gemm g = product(&a, False, &b, False, &c)
    cdef long needed
    with nogil:
        needed = multiply(&g, n_threads)
    return -needed
