"""Lion's update of flat arrays in one pass; formula and arguments are those of ``reference.py``.

Split: elements, in blocks of 16384, each with one owner, so that bits do not depend on the threads.
"""

from cython.parallel cimport prange

# Brings the version of the interface along, which is looked at when the kernel is loaded.
from tisslm.ops.kernels cimport TISS_INTERFACE  # no-cython-lint

cdef enum:
    BLOCK = 16384


cdef inline float sign(float x) noexcept nogil:
    """-1, 0 or 1; not a number where x is none."""
    return x if x != x else <float> (x > 0.0) - <float> (x < 0.0)


cdef void update(float* p, const float* g, float* m, long n, float lr, float beta1, float beta2,
                 float keep, float grad_scale) noexcept nogil:
    cdef long i
    cdef float d
    for i in range(n):
        d = g[i] * grad_scale
        p[i] = p[i] * keep - sign((m[i] - d) * beta1 + d) * lr
        m[i] = (m[i] - d) * beta2 + d


def lion_update(
    float[::1] p_P,  # IN and OUT
    const float[::1] g_P,  # IN
    float[::1] m_P,  # IN and OUT
    double lr,
    double beta1,
    double beta2,
    double weight_decay,
    float grad_scale,
    int n_threads,
):
    cdef long size = p_P.shape[0], b
    cdef long blocks = (size + BLOCK - 1) // BLOCK
    cdef float rate = <float> lr, b1 = <float> beta1, b2 = <float> beta2
    cdef float keep = <float> (1.0 - lr * weight_decay)
    for b in prange(blocks, nogil=True, num_threads=n_threads, schedule='static'):
        update(&p_P[b * BLOCK], &g_P[b * BLOCK], &m_P[b * BLOCK], min(BLOCK, size - b * BLOCK),
               rate, b1, b2, keep, grad_scale)
