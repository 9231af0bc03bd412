"""Normalization of rows, over their channels.

Layer norm: y = (x - mean) rstd gamma + beta. Backward: xhat = (x - mean) rstd; g = dy gamma;
dx = rstd (g - mean(g) - xhat mean(g xhat)) + dres; dgamma += sum dy xhat; dbeta += sum dy.
RMS norm: y = x rstd gamma with rstd = 1 / sqrt(mean(x^2) + eps). Backward: n = x rstd;
g = dy gamma; dx = rstd (g - n mean(g n)) + dres; dgamma += sum dy n.

Forward reads the residual stream h and keeps what it normalizes: x, the stream as it is stored
(float32, bfloat16 or float16). Without x the stream itself is normalized.
Split: rows, in blocks of 64 that also hold the partial sums of dgamma and dbeta; these are added
by columns in block order.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from tisslm._kernels.arrays cimport array_t, at, extent, reads, writes
from tisslm._kernels.isa cimport table
from tisslm._kernels.threads cimport FEW


def layer_norm_forward(
    const float[:, ::1] h_NC,  # IN
    const float[::1] gamma_C,  # IN
    const float[::1] beta_C,  # IN or None
    x_NC,  # OUT, stored, or None
    y_NC,  # OUT, stored
    float[::1] mean_N,  # OUT
    float[::1] rstd_N,  # OUT
    float eps,
    int n_threads,
):
    cdef long n
    cdef int C = extent(h_NC.shape[1])
    cdef array_t x = writes(x_NC, 2), y = writes(y_NC, 2)
    cdef const float* beta = NULL if beta_C is None else &beta_C[0]
    for n in prange(h_NC.shape[0], nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=h_NC.shape[0] * C > FEW):
        table().of[y.type].layer_norm_forward(
            &h_NC[n, 0], &gamma_C[0], beta, <void*> at(&x, n * C), <void*> at(&y, n * C),
            &mean_N[n], &rstd_N[n], C, eps)


def layer_norm_apply(
    x_NC,  # IN, stored
    const float[::1] gamma_C,  # IN
    const float[::1] beta_C,  # IN or None
    const float[::1] mean_N,  # IN
    const float[::1] rstd_N,  # IN
    y_NC,  # OUT, stored as x
    int n_threads,
):
    cdef long n
    cdef array_t x = reads(x_NC, 2), y = writes(y_NC, 2)
    cdef int C = <int> x.shape[1]
    cdef const float* beta = NULL if beta_C is None else &beta_C[0]
    for n in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[x.type].layer_norm_apply(at(&x, n * C), &gamma_C[0], beta, mean_N[n], rstd_N[n],
                                            <void*> at(&y, n * C), C)


cdef void add_partials(const float* partial, long blocks, long C, long first, float* total,
                       bint accumulate) noexcept nogil:
    cdef long stop = min(first + COLUMNS, C), block, c
    if not accumulate:
        memset(total + first, 0, (stop - first) * sizeof(float))
    for block in range(blocks):
        for c in range(first, stop):
            total[c] += partial[block * C + c]


def layer_norm_backward(
    const float[:, ::1] dy_NC,  # IN
    x_NC,  # IN, stored
    const float[::1] gamma_C,  # IN
    const float[::1] mean_N,  # IN
    const float[::1] rstd_N,  # IN
    const float[:, ::1] dres_NC,  # IN or None; may be dx_NC
    float[:, ::1] dx_NC,  # OUT
    float[::1] dgamma_C,  # OUT, or IN and OUT with accumulate, or None
    float[::1] dbeta_C,  # the same
    float[:, :, ::1] partial_2KC,  # scratch
    bint accumulate,
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2)
    cdef long n_rows = x.shape[0], C = x.shape[1], block, n, first
    cdef long blocks = (n_rows + ROWS - 1) // ROWS, parts = (C + COLUMNS - 1) // COLUMNS
    cdef float* partial = &partial_2KC[0, 0, 0]
    cdef float* partial_b = NULL if dbeta_C is None else &partial_2KC[1, 0, 0]
    cdef float* dgamma = NULL if dgamma_C is None else &dgamma_C[0]
    cdef float* dbeta = NULL if dbeta_C is None else &dbeta_C[0]
    cdef const float* dres = NULL if dres_NC is None else &dres_NC[0, 0]
    with nogil:
        for block in prange(blocks, num_threads=n_threads, schedule='static'):
            memset(partial + block * C, 0, C * sizeof(float))
            if partial_b != NULL:
                memset(partial_b + block * C, 0, C * sizeof(float))
            for n in range(block * ROWS, min(block * ROWS + ROWS, n_rows)):
                table().of[x.type].layer_norm_backward(
                    &dy_NC[n, 0], at(&x, n * C), &gamma_C[0], mean_N[n], rstd_N[n],
                    NULL if dres == NULL else dres + n * C, &dx_NC[n, 0], partial + block * C,
                    NULL if partial_b == NULL else partial_b + block * C, <int> C)
        for first in prange(parts, num_threads=n_threads, schedule='static'):
            if dgamma != NULL:
                add_partials(partial, blocks, C, first * COLUMNS, dgamma, accumulate)
            if dbeta != NULL:
                add_partials(partial_b, blocks, C, first * COLUMNS, dbeta, accumulate)


def rms_norm_forward(
    const float[:, ::1] h_NC,  # IN
    const float[::1] gamma_C,  # IN
    x_NC,  # OUT, stored, or None
    y_NC,  # OUT, stored
    float[::1] rstd_N,  # OUT
    float eps,
    int n_threads,
):
    cdef long n
    cdef int C = extent(h_NC.shape[1])
    cdef array_t x = writes(x_NC, 2), y = writes(y_NC, 2)
    for n in prange(h_NC.shape[0], nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=h_NC.shape[0] * C > FEW):
        table().of[y.type].rms_norm_forward(&h_NC[n, 0], &gamma_C[0], <void*> at(&x, n * C),
                                            <void*> at(&y, n * C), &rstd_N[n], C, eps)


def rms_norm_apply(
    x_NC,  # IN, stored
    const float[::1] gamma_C,  # IN
    const float[::1] rstd_N,  # IN
    y_NC,  # OUT, stored as x
    int n_threads,
):
    cdef long n
    cdef array_t x = reads(x_NC, 2), y = writes(y_NC, 2)
    cdef int C = <int> x.shape[1]
    for n in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[x.type].rms_norm_apply(at(&x, n * C), &gamma_C[0], rstd_N[n],
                                          <void*> at(&y, n * C), C)


def rms_norm_backward(
    const float[:, ::1] dy_NC,  # IN
    x_NC,  # IN, stored
    const float[::1] gamma_C,  # IN
    const float[::1] rstd_N,  # IN
    const float[:, ::1] dres_NC,  # IN or None; may be dx_NC
    float[:, ::1] dx_NC,  # OUT
    float[::1] dgamma_C,  # OUT, or IN and OUT with accumulate, or None
    float[:, ::1] partial_KC,  # scratch
    bint accumulate,
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2)
    cdef long n_rows = x.shape[0], C = x.shape[1], block, n, first
    cdef long blocks = (n_rows + ROWS - 1) // ROWS, parts = (C + COLUMNS - 1) // COLUMNS
    cdef float* partial = &partial_KC[0, 0]
    cdef float* dgamma = NULL if dgamma_C is None else &dgamma_C[0]
    cdef const float* dres = NULL if dres_NC is None else &dres_NC[0, 0]
    with nogil:
        for block in prange(blocks, num_threads=n_threads, schedule='static'):
            memset(partial + block * C, 0, C * sizeof(float))
            for n in range(block * ROWS, min(block * ROWS + ROWS, n_rows)):
                table().of[x.type].rms_norm_backward(
                    &dy_NC[n, 0], at(&x, n * C), &gamma_C[0], rstd_N[n],
                    NULL if dres == NULL else dres + n * C, &dx_NC[n, 0], partial + block * C,
                    <int> C)
        for first in prange(parts, num_threads=n_threads, schedule='static'):
            if dgamma != NULL:
                add_partials(partial, blocks, C, first * COLUMNS, dgamma, accumulate)
