"""Schedule-free AdamW's update in one pass; formula and arguments are those of the twin.

Split: elements, in blocks of 16384, each with one owner, so that bits do not depend on the threads.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt, sqrtf

# Brings the version of the interface along, which is looked at when the kernel is loaded.
from tisslm.ops.kernels cimport TISS_INTERFACE  # no-cython-lint

cdef enum:
    BLOCK = 16384


cdef inline int threads_for(long size, int n_threads) noexcept nogil:
    """Waking threads takes longer than a block does: what is no larger stays on this one."""
    return n_threads if size > BLOCK else 1


cdef void update(float* p, const float* g, float* x, float* z, float* v, long n, float rate,
                 float b2, float a2, float root, float eps, float pull, float share, float rest,
                 float grad_scale) noexcept nogil:
    cdef long i
    cdef float d, square, at, average
    for i in range(n):
        d = g[i] * grad_scale
        square = b2 * v[i] + a2 * d * d
        at = z[i] - (rate * (d / (sqrtf(square) * root + eps)) + pull * p[i])
        average = x[i] + share * (at - x[i])
        v[i] = square
        z[i] = at
        x[i] = average
        p[i] = average + rest * (at - average)


cdef void measured(float* p, const float* g, float* x, float* z, float* v, long n, float rate,
                   float b2, float a2, float root, float eps, float pull, float share, float rest,
                   float grad_scale, double* moved) noexcept nogil:
    """Make the update piece by piece, with the parameters of before in a small array."""
    cdef float before[512]
    cdef long start, size, i
    cdef double move = 0.0, length = 0.0
    for start in range(0, n, 512):
        size = min(512, n - start)
        for i in range(size):
            before[i] = p[start + i]
        update(p + start, g + start, x + start, z + start, v + start, size, rate, b2, a2, root, eps,
               pull, share, rest, grad_scale)
        for i in range(size):
            move = move + (<double> p[start + i] - before[i]) * (<double> p[start + i] - before[i])
            length = length + <double> before[i] * before[i]
    moved[0] = move
    moved[1] = length


def schedule_free_update(
    float[::1] p_P,  # IN and OUT
    const float[::1] g_P,  # IN
    float[::1] x_P,  # IN and OUT
    float[::1] z_P,  # IN and OUT
    float[::1] v_P,  # IN and OUT
    double lr,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    double correction2,
    double share,
    float grad_scale,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b, i, n
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    cdef float rate = <float> lr, b2 = <float> beta2, a2 = <float> (1.0 - beta2)
    cdef float root = <float> (1.0 / sqrt(correction2)), pull = <float> (lr * weight_decay)
    cdef float rest = <float> (1.0 - beta1), e = <float> eps, c = <float> share
    cdef int used = threads_for(size, n_threads)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        i = b * BLOCK
        n = min(BLOCK, size - i)
        if moved == NULL:
            update(&p_P[i], &g_P[i], &x_P[i], &z_P[i], &v_P[i], n, rate, b2, a2, root, e, pull, c,
                   rest, grad_scale)
        else:
            measured(&p_P[i], &g_P[i], &x_P[i], &z_P[i], &v_P[i], n, rate, b2, a2, root, e, pull,
                     c, rest, grad_scale, moved + 2 * b)


def schedule_free_point(
    float[::1] p_P,  # OUT
    const float[::1] x_P,  # IN
    const float[::1] z_P,  # IN
    double beta1,
    int n_threads,
):
    cdef long size = p_P.shape[0], b, i
    cdef float rest = <float> (1.0 - beta1)
    cdef int used = threads_for(size, n_threads)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        for i in range(b * BLOCK, min(size, (b + 1) * BLOCK)):
            p_P[i] = x_P[i] + rest * (z_P[i] - x_P[i])
