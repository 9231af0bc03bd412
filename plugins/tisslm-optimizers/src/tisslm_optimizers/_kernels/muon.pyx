"""What Muon does beside products; formulas and arguments are those of the twins.

Split: elements, in blocks of 16384, each with one owner; a transposition by rows of its result.
"""

from cython.parallel cimport prange

# Brings the version of the interface along, which is looked at when the kernel is loaded.
from tisslm.ops.kernels cimport TISS_INTERFACE  # no-cython-lint

cdef enum:
    BLOCK = 16384
    TILE = 16


cdef inline int threads_for(long size, int n_threads) noexcept nogil:
    """Waking threads takes longer than a block does: what is no larger stays on this one."""
    return n_threads if size > BLOCK else 1


cdef void direction(const float* g, float* m, float* u, long n, float rest, float look,
                    float grad_scale) noexcept nogil:
    cdef long i
    cdef float d
    for i in range(n):
        d = g[i] * grad_scale
        m[i] = m[i] + rest * (d - m[i])
        u[i] = m[i] + look * (d - m[i])


cdef void mix(const float* x, float* y, long n, float a, float b) noexcept nogil:
    cdef long i
    for i in range(n):
        y[i] = a * x[i] + b * y[i]


cdef void apply(float* p, const float* o, long n, float rate, float pull,
                double* moved) noexcept nogil:
    cdef double move = 0.0, size = 0.0, step
    cdef float before
    cdef long i
    if moved == NULL:
        for i in range(n):
            p[i] = p[i] - (pull * p[i] + rate * o[i])
        return
    for i in range(n):
        before = p[i]
        p[i] = before - (pull * before + rate * o[i])
        step = <double> p[i] - before
        move += step * step
        size += <double> before * before
    moved[0] = move
    moved[1] = size


def muon_direction(
    const float[::1] g_P,  # IN
    float[::1] momentum_P,  # IN and OUT
    float[::1] u_P,  # OUT
    double momentum,
    bint nesterov,
    float grad_scale,
    int n_threads,
):
    cdef long size = g_P.shape[0], b, i
    cdef float rest = <float> (1.0 - momentum), look = rest if nesterov else <float> 0.0
    cdef int used = threads_for(size, n_threads)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        i = b * BLOCK
        direction(&g_P[i], &momentum_P[i], &u_P[i], min(BLOCK, size - i), rest, look, grad_scale)


def muon_mix(
    const float[::1] x_P,  # IN
    float[::1] y_P,  # IN and OUT
    double a,
    double b,
    int n_threads,
):
    cdef long size = x_P.shape[0], k, i
    cdef float from_x = <float> a, from_y = <float> b
    cdef int used = threads_for(size, n_threads)
    for k in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        i = k * BLOCK
        mix(&x_P[i], &y_P[i], min(BLOCK, size - i), from_x, from_y)


def muon_transpose(
    const float[:, ::1] x_MN,  # IN
    float[:, ::1] y_NM,  # OUT
    int n_threads,
):
    cdef long rows = x_MN.shape[0], columns = x_MN.shape[1], tile, start, i, j
    cdef int used = threads_for(rows * columns, n_threads)
    for tile in prange((columns + TILE - 1) // TILE, nogil=True, num_threads=used,
                       schedule='static'):
        for start in range(0, rows, 16):
            for j in range(tile * TILE, min(columns, (tile + 1) * TILE)):
                for i in range(start, min(rows, start + TILE)):
                    y_NM[j, i] = x_MN[i, j]


def muon_apply(
    float[::1] p_P,  # IN and OUT
    const float[::1] o_P,  # IN
    double rate,
    double pull,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], b, i
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    cdef int used = threads_for(size, n_threads)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=used, schedule='static'):
        i = b * BLOCK
        apply(&p_P[i], &o_P[i], min(BLOCK, size - i), <float> rate, <float> pull,
              NULL if moved == NULL else moved + 2 * b)
