"""How the output of a product is cut in parts for threads.

No bit depends on it, as each element of the output is one chain over K in any part. With few
threads a rule of a few lines does; with many, a part has few tiles, and what its operands cost
beside them decides, so cuts are tried by an estimate that was fitted to measured parts
(docs/experiments.md, 2026-11-30).
"""

from tisslm._kernels.isa cimport TISS_F32, table, tiss_gemm

cdef enum:
    FEW_THREADS = 4  # up to which each has so many tiles that it hardly matters how they are cut
    MOST = 4  # parts for each thread that are tried; and half of one, at least
    LONG = 4096  # elements of k beyond which a part's operands leave a core's own cache
    CACHED = 33554432  # bytes of both operands up to which a last-level cache may have them


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
