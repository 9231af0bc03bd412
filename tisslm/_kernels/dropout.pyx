"""Dropout: y = x mask / (1 - p), mask from counter-based random numbers.

Backward is the same map on the gradient. The mask is a function of (seed, update, site, sample,
element), so it is drawn again in backward instead of being kept. With p = 0 the map is a copy, or
a conversion where y is stored in another type than float32.
Split: rows.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint32_t, uint64_t

from tisslm._kernels.arrays cimport array_t, at, reads, writes
from tisslm._kernels.isa cimport table, tiss_dropout


cdef tiss_dropout stream(double p, uint64_t seed, uint32_t update, uint32_t site) noexcept nogil:
    cdef tiss_dropout d
    d.seed = seed
    d.update = update
    d.site = site
    d.threshold = <uint32_t> (p * 4294967296.0)
    d.scale = <float> (1.0 / (1.0 - p))
    return d


def dropout_forward(
    const float[:, ::1] x_NC,  # IN
    y_NC,  # OUT, stored; may be x_NC
    long T,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    int n_threads,
):
    cdef tiss_dropout d = stream(p, seed, update, site)
    cdef const tiss_dropout* key = &d if p > 0.0 else NULL
    cdef array_t y = writes(y_NC, 2)
    cdef long n, C = x_NC.shape[1]
    for n in prange(x_NC.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[y.type].drop(key, first_row + <uint32_t> (n // T), <uint64_t> (n % T) * C,
                                &x_NC[n, 0], <void*> at(&y, n * C), <int> C)


def dropout_backward(
    const float[:, ::1] dy_NC,  # IN
    dx_NC,  # OUT, stored; may be dy_NC
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
    y_NC,  # IN, stored
    long T,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    int n_threads,
):
    cdef tiss_dropout d = stream(p, seed, update, site)
    cdef const tiss_dropout* key = &d if p > 0.0 else NULL
    cdef array_t y = reads(y_NC, 2)
    cdef long n, C = h_NC.shape[1]
    for n in prange(h_NC.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[y.type].residual(key, first_row + <uint32_t> (n // T), <uint64_t> (n % T) * C,
                                    &h_NC[n, 0], at(&y, n * C), <int> C)
