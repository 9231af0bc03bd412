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
    MOST = 4  # parts for each thread that are tried; and half of one, at least
    LONG = 4096  # elements of k beyond which a part's operands leave a core's own cache
    CACHED = 33554432  # bytes of both operands up to which a last-level cache may have them

cdef enum place_t:  # of a product in its loop
    ALONE, FIRST, LAST


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


cdef bint rows_lie_ready(const tiss_gemm* g, int nr) noexcept nogil:
    """Whether A is read where it lies, by and large: ``blocking.inc`` decides it."""
    if g.a_col != 1:
        return nr == 32 and g.a_type == TISS_F32 and g.a_col % 1024 != 0
    return g.a_row % (1024 if g.a_type == TISS_F32 else 2048) != 0


cdef bint lies_ready(const tiss_gemm* g) noexcept nogil:
    """Whether B is, too."""
    return (g.b_col == 1 and g.a_type == TISS_F32 and g.b_type == TISS_F32
            and g.b_row % 1024 != 0)


cdef struct cutting_t:  # of a product: what decides how it is cut, and the parts that follow
    int m, n, n_threads
    double column, row, longest  # what these cost, and how much of the largest part is waited for
    place_t place
    int least  # blocks of rows for which a panel of B is worth fetching; 0: as many rows as threads
    int tr, tc


cdef cutting_t _known[64]  # of products that came before; kernels run one at a time


cdef cutting_t to_cut(const tiss_gemm* g, int n_threads, place_t place, int nr) noexcept nogil:
    """What a part's columns of B and rows of A cost beside its multiply-adds, in cycles per k.

    As fitted to parts of all sizes: packing takes a third to half a cycle, most where rows become
    words; of what lies ready, B takes hardly anything, for it is read along its rows. Where two
    products share a loop, what A is packed from is in no cache any more. What a thread's own cache
    does not hold, or none, takes more.
    """
    cdef cutting_t c
    cdef double moved = 0.0
    c.m, c.n, c.n_threads, c.place = g.m, g.n, n_threads, place
    c.column = 0.35 if g.b_col != 1 else 0.55
    c.row = 0.4 if place == ALONE else 1.2
    c.longest = 1.25 if place == ALONE else 0.1 if place == FIRST else 0.2
    c.least = 3 if g.a_col == 1 else 2
    if lies_ready(g):
        c.column = 0.03
    if rows_lie_ready(g, nr):
        c.row = 0.15 if g.a_col == 1 else 0.06
        if place != ALONE:  # and without packing, parts may be shorter, for which all wait
            c.row, c.column = 2 * c.row, c.column + 0.07
            c.longest = 0.1 if place == FIRST else 0.5
    if 4.0 * g.k * (<double> g.m + g.n) > CACHED:
        moved = 0.5
    elif g.k > LONG:
        moved = 0.25
    if moved > 0.0:
        c.least = 0
        if place == LAST:
            c.longest = 0.5
        c.column = moved if lies_ready(g) else moved + 0.5
        c.row = moved if rows_lie_ready(g, nr) else moved + 0.5
    c.tr = c.tc = 0
    return c


cdef inline double estimated(const cutting_t* c, long rows, long columns, long high, long wide,
                             int nr) noexcept nogil:
    """What rows x columns parts take, of which the largest is high x wide, in cycles for each of k.

    A part's multiply-adds take 2 vectors a cycle. Turns are counted, as a part more than threads
    costs as much as if each had one more; in the last all wait for the largest, and for what it
    takes longer than it should. Of two products in one loop, the parts of the last fill the turns
    of the first, which hardly waits.
    """
    cdef double m = <double> c.m / rows, n = <double> c.n / columns
    cdef double mean = m * n / nr + c.column * n + c.row * m
    cdef double largest = <double> high * wide / nr + c.column * wide + c.row * high
    cdef double turns = <double> rows * columns / c.n_threads
    if c.place == ALONE:
        turns = <double> (ceil_div(rows * columns, c.n_threads) - 1)
    elif c.place == FIRST and c.least > 0:  # no part may be much more than half of the loop
        return turns * mean + c.longest * largest + max(0.0, largest - 1.3 * turns * mean)
    return turns * mean + c.longest * largest


cdef void many_parts(cutting_t* c, int mr, int nr) noexcept nogil:
    """Cut rows and columns for many threads, each of which has few tiles."""
    cdef long row_blocks = ceil_div(c.m, mr), col_blocks = ceil_div(c.n, nr), rows, columns
    cdef long high, wide, most = MOST * c.n_threads
    cdef double cost, least = 1e300
    rows = min(row_blocks, <long> c.n_threads)
    if c.least > 0:
        rows = max(<long> c.n_threads // 8, min(ceil_div(row_blocks, c.least), most))
        rows = min(row_blocks, rows)
    while rows > 0:  # and of each height in blocks, the fewest parts
        high = ceil_div(row_blocks, rows)
        rows = ceil_div(row_blocks, high)
        columns = min(col_blocks, most // rows)
        while columns > 0:
            wide = ceil_div(col_blocks, columns)
            columns = ceil_div(col_blocks, wide)
            cost = estimated(c, rows, columns, min(<long> c.m, high * mr),
                             min(<long> c.n, wide * nr), nr)
            if cost < least:
                least = cost
                c.tr, c.tc = <int> rows, <int> columns
            columns = columns - 1
            if 2 * rows * columns < c.n_threads:
                break
        rows = rows - 1


cdef bint alike_cut(const cutting_t* a, const cutting_t* b) noexcept nogil:
    return (a.m == b.m and a.n == b.n and a.n_threads == b.n_threads and a.column == b.column
            and a.row == b.row and a.longest == b.longest and a.least == b.least)


cdef void cut(const tiss_gemm* g, int n_threads, place_t place, int* tr, int* tc) noexcept nogil:
    """Cut rows in tr and columns in tc."""
    cdef int mr = table().mr, nr = table().nr
    cdef cutting_t c
    cdef cutting_t* known
    if n_threads > FEW_THREADS:
        c = to_cut(g, n_threads, place, nr)
        known = &_known[(c.m + 31 * c.n + 17 * g.k + 7 * <int> place) % 64]
        if not alike_cut(&c, known):  # the search takes some microseconds, in which all others wait
            many_parts(&c, mr, nr)
            known[0] = c
        tr[0], tc[0] = known.tr, known.tc
        return
    tr[0] = row_parts(g, n_threads, mr, nr)
    tc[0] = column_parts(g, n_threads // tr[0])


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
