"""LAMB's two passes over a parameter; formulas and arguments are those of the twins.

Split: elements, in blocks of 16384, each with one owner. A block's squares are added up in eight
lanes, whose order is fixed, and the caller adds the blocks in their order.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt, sqrtf

# Brings the version of the interface along, which is looked at when the kernel is loaded.
from tisslm.ops.kernels cimport TISS_INTERFACE  # no-cython-lint

cdef enum:
    BLOCK = 16384
    LANES = 8


cdef inline int threads_for(long size, int n_threads) noexcept nogil:
    """Waking threads takes longer than a block does: what is no larger stays on this one."""
    return n_threads if size > BLOCK else 1


cdef inline double total(const double* s) noexcept nogil:
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))


cdef inline float direction(float p, float m, float v, float first, float root, float eps,
                            float decay) noexcept nogil:
    return first * m / (sqrtf(v) * root + eps) + decay * p


cdef void moments(const float* p, const float* g, float* m, float* v, long n, float b1, float a1,
                  float b2, float a2, float first, float root, float eps, float decay,
                  float grad_scale, double* sums) noexcept nogil:
    cdef double size[LANES]
    cdef double step[LANES]
    cdef float u[LANES]
    cdef long start, i, j, whole = n - n % LANES
    cdef float d
    for j in range(LANES):
        size[j] = 0.0
        step[j] = 0.0
    for i in range(n):
        d = g[i] * grad_scale
        m[i] = b1 * m[i] + a1 * d
        v[i] = b2 * v[i] + a2 * d * d
    for start in range(0, whole, 8):
        for j in range(LANES):
            i = start + j
            u[j] = direction(p[i], m[i], v[i], first, root, eps, decay)
        for j in range(LANES):
            size[j] += <double> p[start + j] * p[start + j]
            step[j] += <double> u[j] * u[j]
    for i in range(whole, n):
        d = direction(p[i], m[i], v[i], first, root, eps, decay)
        size[i - whole] += <double> p[i] * p[i]
        step[i - whole] += <double> d * d
    sums[0] = total(size)
    sums[1] = total(step)


cdef void apply(float* p, const float* m, const float* v, long n, float rate, float first,
                float root, float eps, float decay, double* moved) noexcept nogil:
    cdef double move = 0.0, size = 0.0, step
    cdef float before
    cdef long i
    if moved == NULL:
        for i in range(n):
            p[i] = p[i] - rate * direction(p[i], m[i], v[i], first, root, eps, decay)
        return
    for i in range(n):
        before = p[i]
        p[i] = before - rate * direction(before, m[i], v[i], first, root, eps, decay)
        step = <double> p[i] - before
        move += step * step
        size += <double> before * before
    moved[0] = move
    moved[1] = size


def lamb_moments(
    const float[::1] p_P,  # IN
    const float[::1] g_P,  # IN
    float[::1] m_P,  # IN and OUT
    float[::1] v_P,  # IN and OUT
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    double correction1,
    double correction2,
    float grad_scale,
    double[:, ::1] sums_K2,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b, i
    cdef float first = <float> (1.0 / correction1), root = <float> (1.0 / sqrt(correction2))
    cdef float b1 = <float> beta1, a1 = <float> (1.0 - beta1), e = <float> eps
    cdef float b2 = <float> beta2, a2 = <float> (1.0 - beta2), decay = <float> weight_decay
    cdef int used = threads_for(size, n_threads)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        i = b * BLOCK
        moments(&p_P[i], &g_P[i], &m_P[i], &v_P[i], min(BLOCK, size - i), b1, a1, b2, a2, first,
                root, e, decay, grad_scale, &sums_K2[b, 0])


def lamb_apply(
    float[::1] p_P,  # IN and OUT
    const float[::1] m_P,  # IN
    const float[::1] v_P,  # IN
    double rate,
    double eps,
    double weight_decay,
    double correction1,
    double correction2,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b, i
    cdef float first = <float> (1.0 / correction1), root = <float> (1.0 / sqrt(correction2))
    cdef float r = <float> rate, e = <float> eps, decay = <float> weight_decay
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    cdef int used = threads_for(size, n_threads)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        i = b * BLOCK
        apply(&p_P[i], &m_P[i], &v_P[i], min(BLOCK, size - i), r, first, root, e, decay,
              NULL if moved == NULL else moved + 2 * b)
