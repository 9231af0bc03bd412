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

from tisslm._kernels.arrays cimport array_t, at, floats, floats_out, reads, writes
from tisslm._kernels.isa cimport table
from tisslm._kernels.threads cimport FEW


def layer_norm_forward(
    h_NC,  # IN
    gamma_C,  # IN
    beta_C,  # IN or None
    x_NC,  # OUT, stored, or None
    y_NC,  # OUT, stored
    mean_N,  # OUT
    rstd_N,  # OUT
    float eps,
    int n_threads,
):
    cdef array_t h = floats(h_NC, 2), x = writes(x_NC, 2), y = writes(y_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), beta = floats(beta_C, 1)
    cdef array_t mean = floats_out(mean_N, 1), rstd = floats_out(rstd_N, 1)
    cdef long N = h.shape[0], n
    cdef int C = <int> h.shape[1]
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=N * C > FEW):
        table().of[y.type].layer_norm_forward(
            h.floats + n * C, gamma.floats, beta.floats, <void*> at(&x, n * C),
            <void*> at(&y, n * C), mean.floats + n, rstd.floats + n, C, eps)


def layer_norm_apply(
    x_NC,  # IN, stored
    gamma_C,  # IN
    beta_C,  # IN or None
    mean_N,  # IN
    rstd_N,  # IN
    y_NC,  # OUT, stored as x
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), y = writes(y_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), beta = floats(beta_C, 1)
    cdef array_t mean = floats(mean_N, 1), rstd = floats(rstd_N, 1)
    cdef long n
    cdef int C = <int> x.shape[1]
    for n in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[x.type].layer_norm_apply(at(&x, n * C), gamma.floats, beta.floats,
                                            mean.floats[n], rstd.floats[n], <void*> at(&y, n * C),
                                            C)


cdef void add_partials(const float* partial, long blocks, long C, long first, float* total,
                       bint accumulate) noexcept nogil:
    cdef long stop = min(first + COLUMNS, C), block, c
    if not accumulate:
        memset(total + first, 0, (stop - first) * sizeof(float))
    for block in range(blocks):
        for c in range(first, stop):
            total[c] += partial[block * C + c]


def layer_norm_backward(
    dy_NC,  # IN
    x_NC,  # IN, stored
    gamma_C,  # IN
    mean_N,  # IN
    rstd_N,  # IN
    dres_NC,  # IN or None; may be dx_NC
    dx_NC,  # OUT
    dgamma_C,  # OUT, or IN and OUT with accumulate, or None
    dbeta_C,  # the same
    partial_2KC,  # scratch
    bint accumulate,
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), dy = floats(dy_NC, 2), dx = floats_out(dx_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), mean = floats(mean_N, 1), rstd = floats(rstd_N, 1)
    cdef array_t partial_3 = floats_out(partial_2KC, 3)
    cdef long n_rows = x.shape[0], C = x.shape[1], block, n, first
    cdef long blocks = (n_rows + ROWS - 1) // ROWS, parts = (C + COLUMNS - 1) // COLUMNS
    cdef float* dgamma = floats_out(dgamma_C, 1).floats
    cdef float* dbeta = floats_out(dbeta_C, 1).floats
    cdef const float* dres = floats(dres_NC, 2).floats
    cdef float* partial = partial_3.floats
    cdef float* partial_b = NULL
    if dbeta != NULL:
        partial_b = partial + partial_3.shape[1] * C
    with nogil:
        for block in prange(blocks, num_threads=n_threads, schedule='static'):
            memset(partial + block * C, 0, C * sizeof(float))
            if partial_b != NULL:
                memset(partial_b + block * C, 0, C * sizeof(float))
            for n in range(block * ROWS, min(block * ROWS + ROWS, n_rows)):
                table().of[x.type].layer_norm_backward(
                    dy.floats + n * C, at(&x, n * C), gamma.floats, mean.floats[n], rstd.floats[n],
                    NULL if dres == NULL else dres + n * C, dx.floats + n * C, partial + block * C,
                    NULL if partial_b == NULL else partial_b + block * C, <int> C)
        for first in prange(parts, num_threads=n_threads, schedule='static'):
            if dgamma != NULL:
                add_partials(partial, blocks, C, first * COLUMNS, dgamma, accumulate)
            if dbeta != NULL:
                add_partials(partial_b, blocks, C, first * COLUMNS, dbeta, accumulate)


def rms_norm_forward(
    h_NC,  # IN
    gamma_C,  # IN
    x_NC,  # OUT, stored, or None
    y_NC,  # OUT, stored
    rstd_N,  # OUT
    float eps,
    int n_threads,
):
    cdef array_t h = floats(h_NC, 2), x = writes(x_NC, 2), y = writes(y_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), rstd = floats_out(rstd_N, 1)
    cdef long N = h.shape[0], n
    cdef int C = <int> h.shape[1]
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=N * C > FEW):
        table().of[y.type].rms_norm_forward(h.floats + n * C, gamma.floats, <void*> at(&x, n * C),
                                            <void*> at(&y, n * C), rstd.floats + n, C, eps)


def rms_norm_apply(
    x_NC,  # IN, stored
    gamma_C,  # IN
    rstd_N,  # IN
    y_NC,  # OUT, stored as x
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), y = writes(y_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), rstd = floats(rstd_N, 1)
    cdef long n
    cdef int C = <int> x.shape[1]
    for n in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[x.type].rms_norm_apply(at(&x, n * C), gamma.floats, rstd.floats[n],
                                          <void*> at(&y, n * C), C)


def rms_norm_backward(
    dy_NC,  # IN
    x_NC,  # IN, stored
    gamma_C,  # IN
    rstd_N,  # IN
    dres_NC,  # IN or None; may be dx_NC
    dx_NC,  # OUT
    dgamma_C,  # OUT, or IN and OUT with accumulate, or None
    partial_KC,  # scratch
    bint accumulate,
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), dy = floats(dy_NC, 2), dx = floats_out(dx_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), rstd = floats(rstd_N, 1)
    cdef long n_rows = x.shape[0], C = x.shape[1], block, n, first
    cdef long blocks = (n_rows + ROWS - 1) // ROWS, parts = (C + COLUMNS - 1) // COLUMNS
    cdef float* partial = floats_out(partial_KC, 2).floats
    cdef float* dgamma = floats_out(dgamma_C, 1).floats
    cdef const float* dres = floats(dres_NC, 2).floats
    with nogil:
        for block in prange(blocks, num_threads=n_threads, schedule='static'):
            memset(partial + block * C, 0, C * sizeof(float))
            for n in range(block * ROWS, min(block * ROWS + ROWS, n_rows)):
                table().of[x.type].rms_norm_backward(
                    dy.floats + n * C, at(&x, n * C), gamma.floats, rstd.floats[n],
                    NULL if dres == NULL else dres + n * C, dx.floats + n * C, partial + block * C,
                    <int> C)
        for first in prange(parts, num_threads=n_threads, schedule='static'):
            if dgamma != NULL:
                add_partials(partial, blocks, C, first * COLUMNS, dgamma, accumulate)
