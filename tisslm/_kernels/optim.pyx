"""Optimizer updates, fills, scalings and norms of flat arrays, one pass each.

Split: elements, in blocks of 16384; the squared norm keeps one partial sum per block, in double
precision, and the caller adds them in block order. So does an update that is given an array for how
far it moves the parameters.
"""

from cython.parallel cimport prange

from tisslm._kernels.isa cimport table

cdef enum:
    BLOCK = 16384


cdef inline long blocks(long size) noexcept nogil:
    return (size + BLOCK - 1) // BLOCK


cdef inline double* block(double* moved, long b) noexcept nogil:
    return NULL if moved == NULL else moved + 2 * b


cdef inline const float* at_in(const float[::1] x, long i) noexcept nogil:
    return &x[i]


def sgd_update(
    float[::1] p_P,  # IN and OUT
    const float[::1] g_P,  # IN
    float[::1] momentum_P or None,  # IN and OUT
    float lr,
    float momentum,
    bint nesterov,
    float weight_decay,
    bint first,
    float grad_scale,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b
    cdef float* buf = NULL if momentum_P is None else &momentum_P[0]
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        table().sgd(&p_P[b * BLOCK], &g_P[b * BLOCK], NULL if buf == NULL else buf + b * BLOCK,
                    min(BLOCK, size - b * BLOCK), lr, momentum, nesterov, weight_decay, first,
                    grad_scale, block(moved, b))


def adam_update(
    float[::1] p_P,  # IN and OUT
    const float[::1] g_P,  # IN
    float[::1] m_P,  # IN and OUT
    float[::1] v_P,  # IN and OUT
    double lr,
    double beta1,
    double beta2,
    float eps,
    double weight_decay,
    bint decoupled,
    double correction1,
    double correction2,
    float grad_scale,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        table().adam(&p_P[b * BLOCK], &g_P[b * BLOCK], &m_P[b * BLOCK], &v_P[b * BLOCK],
                     min(BLOCK, size - b * BLOCK), lr, beta1, beta2, eps, weight_decay, decoupled,
                     correction1, correction2, grad_scale, block(moved, b))


def rmsprop_update(
    float[::1] p_P,  # IN and OUT
    const float[::1] g_P,  # IN
    float[::1] square_P,  # IN and OUT
    float[::1] average_P or None,  # IN and OUT
    float[::1] momentum_P or None,  # IN and OUT
    float lr,
    double alpha,
    float eps,
    float weight_decay,
    float momentum,
    float grad_scale,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b
    cdef float* average = NULL if average_P is None else &average_P[0]
    cdef float* buf = NULL if momentum_P is None else &momentum_P[0]
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        table().rmsprop(&p_P[b * BLOCK], &g_P[b * BLOCK], &square_P[b * BLOCK],
                        NULL if average == NULL else average + b * BLOCK,
                        NULL if buf == NULL else buf + b * BLOCK, min(BLOCK, size - b * BLOCK),
                        lr, alpha, eps, weight_decay, momentum, grad_scale, block(moved, b))


def fill(
    float[::1] x_P,  # OUT
    float value,
    int n_threads,
):
    cdef long size = x_P.shape[0], b, i
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        for i in range(b * BLOCK, min(size, (b + 1) * BLOCK)):
            x_P[i] = value


def add(
    float[::1] x_P,  # IN and OUT
    const float[::1] y_P,  # IN
    int n_threads,
):
    cdef long size = x_P.shape[0], b
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        table().add(&x_P[b * BLOCK], &y_P[b * BLOCK], min(BLOCK, size - b * BLOCK))


def average(
    float[::1] average_P,  # IN and OUT
    const float[::1] p_P,  # IN
    double decay,
    int n_threads,
):
    cdef long size = average_P.shape[0], b
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        table().average(&average_P[b * BLOCK], &p_P[b * BLOCK], min(BLOCK, size - b * BLOCK),
                        1.0 - decay)


def scale(
    float[::1] x_P,  # IN and OUT
    float value,
    int n_threads,
):
    cdef long size = x_P.shape[0], b
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        table().scale(&x_P[b * BLOCK], value, min(BLOCK, size - b * BLOCK))


def squared_norm(
    const float[::1] x_P,  # IN
    double[::1] partial_K,  # OUT
    int n_threads,
):
    cdef long size = x_P.shape[0], b
    for b in prange(blocks(size), nogil=True, num_threads=n_threads, schedule='static'):
        partial_K[b] = table().squared_norm(at_in(x_P, b * BLOCK), min(BLOCK, size - b * BLOCK))
