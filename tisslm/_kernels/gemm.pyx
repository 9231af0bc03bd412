"""Matrix products on all threads: C (+)= A B with optional bias and activation.

Split: the output, in rows x columns, in more parts than threads. With our micro-kernels the grid
follows the number of threads, since each element is one chain over K whatever the grid. With BLAS
(floats at the baseline level) the grid is a function of the shape alone, because another tile
shape changes its bits.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from tisslm._kernels.arrays cimport array_t
from tisslm._kernels.arrays cimport at as at_column
from tisslm._kernels.blas cimport gemm as blas_gemm
from tisslm._kernels.isa cimport TISS_BASELINE, TISS_F32, table, tiss_gemm
from tisslm._kernels.threads cimport scratch, scratch_floats

cdef enum:
    # tiles of the BLAS path: large enough for a single-thread sgemm to run near its peak
    BLAS_ROWS = 256
    BLAS_COLUMNS = 512
    FEW_THREADS = 4  # up to which each has so many tiles that it hardly matters how they are cut
    N_CUTS = 16
    CACHED = 33554432  # bytes of both operands up to which a last-level cache may have them

# Into how many parts rows are cut, and how many blocks of columns a part may have.
cdef int[16] CUTS = [1, 2, 3, 4, 6, 8, 11, 12, 16, 22, 24, 32, 43, 48, 64, 86]


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


cdef bint lies_ready(const tiss_gemm* g) noexcept nogil:
    """Whether B is read where it lies, by and large: ``gemm.inc`` decides it."""
    return (g.b_col == 1 and g.a_type == TISS_F32 and g.b_type == TISS_F32
            and g.b_row % 1024 != 0)


cdef void many_parts(const tiss_gemm* g, int n_threads, int mr, int nr, int* tr,
                     int* tc) noexcept nogil:
    """Cut rows in tr and columns in tc for many threads, each of which has few tiles.

    Estimated, in cycles for each of k: multiply-adds (2 vectors a cycle); moving B's columns and
    A's rows to the core's own cache (about 4 floats a cycle, half as many from memory), and packing
    B (2 elements a cycle).
    Turns are counted, as a part more than threads costs as much as if each had one more; and part
    of one part, for which all wait at the end.
    """
    cdef long row_blocks = ceil_div(g.m, mr), col_blocks = ceil_div(g.n, nr), rows, columns, turns
    cdef double one, cost, least = 1e300
    cdef double row = 0.25 if 4.0 * g.k * (<double> g.m + g.n) < CACHED else 0.5
    cdef double column = (row if lies_ready(g) else row + 0.5) * nr
    cdef int i, j
    for i in range(N_CUTS):
        if i > 0 and (CUTS[i] > row_blocks or CUTS[i] > n_threads):
            break
        rows = CUTS[i]
        for j in range(N_CUTS):
            if j > 0 and CUTS[j] > col_blocks:
                break
            columns = ceil_div(col_blocks, CUTS[j])
            turns = ceil_div(rows * columns, n_threads)
            one = (<double> g.m / rows) * (<double> col_blocks / columns)
            one = one + column * col_blocks / columns + row * g.m / rows
            cost = (turns + 0.25) * one
            if cost < least:
                least = cost
                tr[0], tc[0] = <int> rows, <int> columns


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
    cdef int tr, tc, mr = table().mr, nr = table().nr
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
    if n_threads > FEW_THREADS:
        many_parts(g, n_threads, mr, nr, &tr, &tc)
    else:
        tr = row_parts(g, n_threads, mr, nr)
        tc = column_parts(g, n_threads // tr)
    tiles = <long> tr * tc
    for part_ in prange(tiles + sums, num_threads=n_threads, schedule='dynamic', chunksize=1):
        if part_ < tiles:
            work(g, part_, tr, tc, mr, nr)
        else:  # last, as they are short
            sum_columns(x, (part_ - tiles) * SUMS, total, accumulate)
    return 0
