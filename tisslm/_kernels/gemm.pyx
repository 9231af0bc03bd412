"""Matrix products on all threads: C (+)= A B with optional bias and activation.

Split: the output, in rows x columns, in more parts than threads. With our micro-kernels the grid
follows the number of threads (cutting.pyx), since each element is one chain over K whatever the
grid. With BLAS (floats at the baseline level) the grid is a function of the shape alone, because
another tile shape changes its bits.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from tisslm._kernels.arrays cimport array_t
from tisslm._kernels.arrays cimport at as at_column
from tisslm._kernels.blas cimport gemm as blas_gemm
from tisslm._kernels.cutting cimport ALONE, FIRST, LAST, ceil_div, cut
from tisslm._kernels.isa cimport TISS_BASELINE, TISS_F32, table, tiss_gemm
from tisslm._kernels.threads cimport scratch, scratch_floats

cdef enum:
    # tiles of the BLAS path: large enough for a single-thread sgemm to run near its peak
    BLAS_ROWS = 256
    BLAS_COLUMNS = 512


cdef inline const void* at(const void* p, int type, long elements) noexcept nogil:
    return <const char*> p + elements * (4 if type == TISS_F32 else 2)


cdef tiss_gemm part(const tiss_gemm* g, long r0, long r1, long c0, long c1) noexcept nogil:
    """Rows r0..r1 and columns c0..c1 of a product."""
    cdef tiss_gemm p = g[0]
    p.m = <int> (r1 - r0)
    p.n = <int> (c1 - c0)
    p.a = at(g.a, g.a_type, r0 * g.a_row)
    p.b = at(g.b, g.b_type, c0 * g.b_col)
    p.c = <void*> at(g.c, g.c_type, r0 * g.c_row + c0)
    if g.bias != NULL:
        p.bias = g.bias + c0
    if g.activation >= 0:
        p.act = <void*> at(g.act, g.c_type, r0 * g.c_row + c0)
    return p


cdef float _nothing = 0.0


cdef void work(const tiss_gemm* g, long t, int tr, int tc) noexcept nogil:
    cdef int mr = table().mr, nr = table().nr
    cdef long row_blocks = ceil_div(g.m, mr), col_blocks = ceil_div(g.n, nr)
    cdef long i = t % tr, j = t // tr
    cdef long r0 = min(row_blocks * i // tr * mr, g.m)
    cdef long r1 = min(row_blocks * (i + 1) // tr * mr, g.m)
    cdef long c0 = min(col_blocks * j // tc * nr, g.n)
    cdef long c1 = min(col_blocks * (j + 1) // tc * nr, g.n)
    cdef tiss_gemm p
    if r1 > r0 and c1 > c0:
        p = part(g, r0, r1, c0, c1)
        if p.k <= 0:  # nothing to add up, and C is still to be written: one term, all of it this 0
            p.k = 1
            p.a, p.a_row, p.a_col, p.a_type = &_nothing, 0, 1, TISS_F32
            p.b, p.b_row, p.b_col, p.b_type = &_nothing, 1, 0, TISS_F32
        table().gemm(&p, scratch())


cdef void blas_tile(const tiss_gemm* g, long i, long j) noexcept nogil:
    cdef tiss_gemm p = part(g, i * BLAS_ROWS, min((i + 1) * BLAS_ROWS, <long> g.m),
                            j * BLAS_COLUMNS, min((j + 1) * BLAS_COLUMNS, <long> g.n))
    cdef int r, x
    cdef float* c = <float*> p.c
    cdef float beta = 1.0 if p.accumulate or p.bias != NULL else 0.0
    if p.bias != NULL:
        for r in range(p.m):
            for x in range(p.n):
                c[r * p.c_row + x] = p.bias[x] + (c[r * p.c_row + x] if p.accumulate else 0.0)
    blas_gemm(p.m, p.n, p.k, <const float*> p.a, p.a_row, p.a_col, <const float*> p.b, p.b_row,
              p.b_col, beta, c, p.c_row)
    if p.activation >= 0:
        for r in range(p.m):
            table().of[<int> TISS_F32].activation_forward(
                c + r * p.c_row, <float*> p.act + r * p.c_row, p.n, p.activation)


cdef bint goes_to_blas(const tiss_gemm* g) noexcept nogil:
    return (table().level == TISS_BASELINE and g.a_type == TISS_F32 and g.b_type == TISS_F32
            and g.c_type == TISS_F32)


cdef long multiply(const tiss_gemm* g, int n_threads) noexcept nogil:
    """Compute C (+)= A B; return 0, or the floats of scratch per thread that are missing."""
    return multiply_and_sum(g, NULL, NULL, False, n_threads)


cdef void sum_columns(const array_t* x, long first, float* total, bint accumulate) noexcept nogil:
    """Sums of up to SUMS columns of x, 64 rows after the other."""
    cdef long width = min(<long> SUMS, x.shape[1] - first)
    if not accumulate:
        memset(total + first, 0, width * sizeof(float))
    table().of[x.type].sum_rows(at_column(x, first), x.shape[1], x.shape[0], <int> width,
                                total + first)


cdef long multiply_and_sum(const tiss_gemm* g, const array_t* x, float* total, bint accumulate,
                           int n_threads) noexcept nogil:
    """The same, and in the same loop the sums of the columns of x, where these are wanted."""
    cdef int tr, tc
    cdef long tile, columns, tiles, needed, part_
    cdef long sums = 0 if total == NULL else ceil_div(x.shape[1], SUMS)
    if g.m <= 0 or g.n <= 0:
        return 0
    if goes_to_blas(g):
        columns = ceil_div(g.n, BLAS_COLUMNS)
        tiles = columns * ceil_div(g.m, BLAS_ROWS)
        for tile in prange(tiles + sums, num_threads=n_threads, schedule='dynamic', chunksize=1):
            if tile < tiles:
                blas_tile(g, tile // columns, tile % columns)
            else:
                sum_columns(x, (tile - tiles) * SUMS, total, accumulate)
        return 0
    needed = table().gemm_scratch(g)
    if needed > scratch_floats():
        return needed
    cut(g, n_threads, ALONE, &tr, &tc)
    tiles = <long> tr * tc
    for part_ in prange(tiles + sums, num_threads=n_threads, schedule='dynamic', chunksize=1):
        if part_ < tiles:
            work(g, part_, tr, tc)
        else:  # last, as they are short
            sum_columns(x, (part_ - tiles) * SUMS, total, accumulate)
    return 0


cdef long multiply_both(const tiss_gemm* g, const tiss_gemm* h, const array_t* x, float* total,
                        bint accumulate, int n_threads) noexcept nogil:
    """Two products that need nothing of each other, and such sums, in one loop.

    Threads that have no part of one left have those of the other. The one with less output comes
    first: each of its parts adds up more, so that it costs more to cut it fine.
    """
    cdef int tr, tc, tr2, tc2
    cdef bint ordered = <double> g.m * g.n <= <double> h.m * h.n
    cdef const tiss_gemm* first = g if ordered else h
    cdef const tiss_gemm* second = h if ordered else g
    cdef long tiles, both, needed, part_, sums = 0 if total == NULL else ceil_div(x.shape[1], SUMS)
    if goes_to_blas(g) or goes_to_blas(h) or min(g.m, g.n) <= 0 or min(h.m, h.n) <= 0:
        needed = multiply(g, n_threads)
        return max(needed, multiply_and_sum(h, x, total, accumulate, n_threads))
    needed = max(table().gemm_scratch(g), table().gemm_scratch(h))
    if needed > scratch_floats():
        return needed
    cut(first, n_threads, FIRST, &tr, &tc)
    cut(second, n_threads, LAST, &tr2, &tc2)
    tiles = <long> tr * tc
    both = tiles + <long> tr2 * tc2
    for part_ in prange(both + sums, num_threads=n_threads, schedule='dynamic', chunksize=1):
        if part_ < tiles:
            work(first, part_, tr, tc)
        elif part_ < both:
            work(second, part_ - tiles, tr2, tc2)
        else:
            sum_columns(x, (part_ - both) * SUMS, total, accumulate)
    return 0
