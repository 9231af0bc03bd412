"""Dropout: y = x mask / (1 - p), mask from counter-based random numbers.

Backward is the same map on the gradient. The mask is a function of (seed, update, site, sample,
element), so it is drawn again in backward instead of being kept.
Split: rows.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint32_t, uint64_t

from tisslm._kernels.isa cimport table, tiss_dropout

cdef enum:
    PIECE = 256  # elements whose factors are drawn at once


cdef tiss_dropout stream(double p, uint64_t seed, uint32_t update, uint32_t site) noexcept nogil:
    cdef tiss_dropout d
    d.seed = seed
    d.update = update
    d.site = site
    d.threshold = <uint32_t> (p * 4294967296.0)
    d.scale = <float> (1.0 / (1.0 - p))
    return d


cdef void row(const tiss_dropout* d, const float* x, float* y, bint add, long C,
              uint32_t sample, uint64_t element) noexcept nogil:
    """y = factor x, or y += factor x, for one row."""
    cdef float factor[PIECE]
    cdef long c = 0, i, count
    while c < C:
        count = min(<long> PIECE, C - c)
        table().keep(d, sample, element + c, <int> count, factor)
        if add:
            for i in range(count):
                y[c + i] += x[c + i] * factor[i]
        else:
            for i in range(count):
                y[c + i] = x[c + i] * factor[i]
        c += PIECE


def dropout_forward(
    const float[:, ::1] x_NC,  # IN
    float[:, ::1] y_NC,  # OUT; may be x_NC
    long T,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    int n_threads,
):
    cdef tiss_dropout d = stream(p, seed, update, site)
    cdef long n, C = x_NC.shape[1]
    for n in prange(x_NC.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        row(&d, &x_NC[n, 0], &y_NC[n, 0], False, C, first_row + <uint32_t> (n // T),
            <uint64_t> (n % T) * C)


def dropout_backward(
    const float[:, ::1] dy_NC,  # IN
    float[:, ::1] dx_NC,  # OUT; may be dy_NC
    long T,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    int n_threads,
):
    dropout_forward(dy_NC, dx_NC, T, p, seed, update, site, first_row, n_threads)


def residual_forward(
    float[:, ::1] h_NC,  # IN and OUT
    const float[:, ::1] y_NC,  # IN
    long T,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    int n_threads,
):
    cdef tiss_dropout d = stream(p, seed, update, site)
    cdef long n, C = h_NC.shape[1]
    cdef bint drop = p > 0.0
    for n in prange(h_NC.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        if drop:
            row(&d, &y_NC[n, 0], &h_NC[n, 0], True, C, first_row + <uint32_t> (n // T),
                <uint64_t> (n % T) * C)
        else:
            table().add(&h_NC[n, 0], &y_NC[n, 0], C)
