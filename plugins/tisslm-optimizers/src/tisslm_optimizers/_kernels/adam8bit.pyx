"""AdamW with means in 8 bits, block by block; formula and arguments are those of the twin.

Split: blocks of 256 elements from the parameter's first one, each with one owner, which unpacks its
means, updates them, and packs them again by the largest of the block.

A magnitude is packed as the nearest level: its exponent and first bits lead to a table of how many
midpoints lie below all numbers that have these, and one comparison finds out about the next.
"""

from cython.parallel cimport prange
from libc.math cimport fabsf, sqrt, sqrtf
from libc.string cimport memcpy

# Brings the version of the interface along, which is looked at when the kernel is loaded.
from tisslm.ops.kernels cimport TISS_INTERFACE  # no-cython-lint

import numpy as np

from tisslm_optimizers.dynamic_map import LEVELS, MIDPOINTS, unpack_signed

cdef enum:
    BLOCK = 16384  # elements of a thread's piece: 64 of the blocks that share a scale
    SHARED = 256
    SHIFT = 16  # bits of a float's fraction that are left out of a key: 7 are in it
    LEAST = 104 << 7  # the key of 2^-23, below all midpoints
    KEYS = (24 << 7) + 1  # up to the key of 1.0


cdef inline int threads_for(long size, int n_threads) noexcept nogil:
    """Waking threads takes longer than a block does: what is no larger stays on this one."""
    return n_threads if size > BLOCK else 1


cdef float of_byte[2][256]
cdef float midpoints[2][257]
cdef unsigned char below[2][KEYS]


cdef void set_up():
    """Fill the tables from the levels and midpoints that the twin uses."""
    cdef int kind, i, key
    of_bytes = unpack_signed(np.arange(256)), LEVELS["unsigned"]
    for kind, name in enumerate(("signed", "unsigned")):
        mids = np.asarray(MIDPOINTS[name], np.float32)
        for i in range(256):
            of_byte[kind][i] = of_bytes[kind][i]
        for i in range(257):
            midpoints[kind][i] = mids[i] if i < len(mids) else np.inf
        firsts = (np.arange(KEYS, dtype=np.uint32) + LEAST) << SHIFT
        counts = np.searchsorted(mids, firsts.view(np.float32), side="left")
        counts[0] = 0  # smaller numbers have this key, too
        for key in range(KEYS):
            below[kind][key] = counts[key]


set_up()


cdef float largest(const float* x, long n) noexcept nogil:
    """The largest magnitude, in eight lanes: a compiler does not reorder comparisons by itself."""
    cdef float lane[8]
    cdef float found = 0.0
    cdef long start, j
    for j in range(8):
        lane[j] = 0.0
    for start in range(0, n - n % 8, 8):
        for j in range(8):
            lane[j] = fabsf(x[start + j]) if fabsf(x[start + j]) > lane[j] else lane[j]
    for j in range(8):
        found = max(found, lane[j])
    for j in range(n - n % 8, n):
        found = max(found, fabsf(x[j]))
    return found


cdef void find_nearest(const float* x, unsigned char* found, long n, float scale,
                       int kind) noexcept nogil:
    """The places of the levels nearest to magnitudes over a scale; the smaller one where two are.

    Where the scale is zero, all numbers are.
    """
    cdef float share[SHARED]
    cdef int key[SHARED]
    cdef long i
    cdef unsigned char place
    if scale == 0.0:
        scale = 1.0
    for i in range(n):
        share[i] = fabsf(x[i]) / scale
    memcpy(key, share, n * sizeof(float))
    for i in range(n):
        key[i] = (key[i] >> SHIFT) - LEAST
        key[i] = key[i] if key[i] > 0 else 0
        key[i] = key[i] if key[i] < KEYS else KEYS - 1
    for i in range(n):
        place = below[kind][key[i]]
        found[i] = place + (share[i] > midpoints[kind][place])


cdef void update(float* p, const float* g, unsigned char* mc, unsigned char* vc, float* ms,
                 float* vs, long n, float rate, float b1, float a1, float b2, float a2, float root,
                 float eps, float pull, float grad_scale, double* moved) noexcept nogil:
    cdef float m[SHARED]
    cdef float v[SHARED]
    cdef float old[SHARED]
    cdef float m_scale = ms[0], v_scale = vs[0], d
    cdef int below_zero, place
    cdef long i
    cdef double step
    for i in range(n):
        m[i] = of_byte[0][mc[i]]
        v[i] = of_byte[1][vc[i]]
    for i in range(n):
        d = g[i] * grad_scale
        m[i] = b1 * (m[i] * m_scale) + a1 * d
        v[i] = b2 * (v[i] * v_scale) + a2 * d * d
    memcpy(old, p, n * sizeof(float))
    for i in range(n):
        p[i] = old[i] - (pull * old[i] + rate * (m[i] / (sqrtf(v[i]) * root + eps)))
    if moved != NULL:
        for i in range(n):
            step = <double> p[i] - old[i]
            moved[0] += step * step
            moved[1] += <double> old[i] * old[i]
    ms[0] = largest(m, n)
    vs[0] = largest(v, n)
    find_nearest(m, mc, n, ms[0], 0)
    find_nearest(v, vc, n, vs[0], 1)
    for i in range(n):  # no branch, which signs would mislead; the last level is missing below zero
        below_zero = 1 - (m[i] >= 0.0)
        place = mc[i] - (below_zero & (mc[i] >> 7))
        mc[i] = 127 + place - 2 * place * below_zero


def adam8bit_update(
    float[::1] p_P,  # IN and OUT
    const float[::1] g_P,  # IN
    unsigned char[::1] m_P,  # IN and OUT
    unsigned char[::1] v_P,  # IN and OUT
    float[::1] m_scale_B,  # IN and OUT
    float[::1] v_scale_B,  # IN and OUT
    double lr,
    double beta1,
    double beta2,
    double eps,
    double weight_decay,
    double correction1,
    double correction2,
    float grad_scale,
    double[:, ::1] moved_K2 or None,  # OUT
    int n_threads,
):
    cdef long size = p_P.shape[0], unit, b, i, blocks = m_scale_B.shape[0]
    cdef long units = (size + BLOCK - 1) // BLOCK
    cdef float rate = <float> (lr / correction1), root = <float> (1.0 / sqrt(correction2))
    cdef float b1 = <float> beta1, a1 = <float> (1.0 - beta1), e = <float> eps
    cdef float b2 = <float> beta2, a2 = <float> (1.0 - beta2), pull = <float> (lr * weight_decay)
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    cdef int used = threads_for(size, n_threads)
    for unit in prange(units, nogil=True, num_threads=used, schedule='static'):
        if moved != NULL:
            moved[2 * unit] = 0.0
            moved[2 * unit + 1] = 0.0
        for b in range(unit * 64, min(blocks, (unit + 1) * 64)):
            i = b * SHARED
            update(&p_P[i], &g_P[i], &m_P[i], &v_P[i], &m_scale_B[b], &v_scale_B[b],
                   min(SHARED, size - i), rate, b1, a1, b2, a2, root, e, pull, grad_scale,
                   NULL if moved == NULL else moved + 2 * unit)
