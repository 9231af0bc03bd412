"""What an array is like: its sums, its largest magnitude, and counts of its elements.

For each block of 16384 elements: sum x, sum x^2, max |x|, the number of zeros, and the number of
elements below low or above high. Split by blocks, so the numbers do not depend on the threads.
"""

from cython.parallel cimport prange

from tisslm._kernels.isa cimport table

cdef enum:
    BLOCK = 16384


def summarize(
    const float[::1] x_P,  # IN
    float low,
    float high,
    double[:, ::1] partial_K5,  # OUT
    int n_threads,
):
    cdef long size = x_P.shape[0], n_blocks = (x_P.shape[0] + BLOCK - 1) // BLOCK, b
    for b in prange(n_blocks, nogil=True, num_threads=n_threads, schedule='static'):
        table().summarize(&x_P[b * BLOCK], min(BLOCK, size - b * BLOCK), low, high,
                          &partial_K5[b, 0])
