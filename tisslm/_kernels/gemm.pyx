"""Matrix products on all threads: C (+)= A B with optional bias and activation.

Split: the output, in rows x columns, in more parts than threads. With our micro-kernels the grid
follows the number of threads, since each element is one chain over K whatever the grid. With BLAS
(floats at the baseline level) the grid is a function of the shape alone, because another tile
shape changes its bits.
"""

from cython.parallel cimport prange

from tisslm._kernels.blas cimport gemm as blas_gemm
from tisslm._kernels.isa cimport TISS_BASELINE, TISS_F32, table, tiss_gemm
from tisslm._kernels.threads cimport scratch, scratch_floats

cdef enum:
    # tiles of the BLAS path: large enough for a single-thread sgemm to run near its peak
    BLAS_ROWS = 256
    BLAS_COLUMNS = 512


cdef inline long ceil_div(long a, long b) noexcept nogil:
    return (a + b - 1) // b


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


cdef int row_parts(const tiss_gemm* g, int n_threads, int mr, int nr) noexcept nogil:
    """How many of the threads share the rows, the rest of the factor sharing the columns.

    Estimated time of the slowest thread: its multiply-adds (2 vectors a cycle) and its packing
    (about 2 elements a cycle for B, as many for A when it is transposed).
    """
    cdef int best = 1, tr, tc
    cdef double cost, least = 1e300, rows, columns
    for tr in range(1, n_threads + 1):
        if n_threads % tr:
            continue
        tc = n_threads // tr
        rows = ceil_div(ceil_div(g.m, mr), tr) * mr
        columns = ceil_div(ceil_div(g.n, nr), tc) * nr
        cost = rows * columns / nr + 0.5 * columns
        if g.a_col != 1:
            cost = cost + 0.5 * rows * ceil_div(<long> columns, 256)
        if cost < least:
            least = cost
            best = tr
    return best


cdef int column_parts(const tiss_gemm* g, int threads) noexcept nogil:
    """How many parts the columns are cut into for threads that share them, a multiple of these.

    More than one for each, so that a thread that the machine holds up leaves some to the others;
    not so many that a packed block of A (wide parts, then) or a first cold block of B costs more.
    """
    cdef long wide = 192 if g.a_col == 1 else 384
    return <int> (threads * max(<long> 1, g.n // threads // wide))


cdef void work(const tiss_gemm* g, long t, int tr, int tc, int mr, int nr) noexcept nogil:
    cdef long row_blocks = ceil_div(g.m, mr), col_blocks = ceil_div(g.n, nr)
    cdef long i = t % tr, j = t // tr
    cdef long r0 = min(row_blocks * i // tr * mr, g.m)
    cdef long r1 = min(row_blocks * (i + 1) // tr * mr, g.m)
    cdef long c0 = min(col_blocks * j // tc * nr, g.n)
    cdef long c1 = min(col_blocks * (j + 1) // tc * nr, g.n)
    cdef tiss_gemm p
    if r1 > r0 and c1 > c0:
        p = part(g, r0, r1, c0, c1)
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
    cdef int tr, tc, mr = table().mr, nr = table().nr
    cdef long tile, columns, tiles, needed, part_
    if g.m <= 0 or g.n <= 0:
        return 0
    if goes_to_blas(g):
        columns = ceil_div(g.n, BLAS_COLUMNS)
        tiles = columns * ceil_div(g.m, BLAS_ROWS)
        for tile in prange(tiles, num_threads=n_threads, schedule='dynamic', chunksize=1):
            blas_tile(g, tile // columns, tile % columns)
        return 0
    needed = table().gemm_scratch(g)
    if needed > scratch_floats():
        return needed
    tr = row_parts(g, n_threads, mr, nr)
    tc = column_parts(g, n_threads // tr)
    for part_ in prange(tr * tc, num_threads=n_threads, schedule='dynamic', chunksize=1):
        work(g, part_, tr, tc, mr, nr)
    return 0
