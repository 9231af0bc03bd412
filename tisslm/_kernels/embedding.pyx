"""Token plus position embedding: h[b, t] = token[x[b, t]] + position[t].

With start, a row holds several documents and the position of a token is t - start[b, t].
Backward: each row of a table adds up dh over its occurrences in order of place.
Split: forward by rows of h; backward by vocabulary rows (after a counting sort of the ids) and
by positions (after another where documents begin anew), so that no two threads write one element.
Where these are few, by columns, too: a row of a small vocabulary has many occurrences.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from tisslm._kernels.arrays cimport array_t, at, extent, reads
from tisslm._kernels.isa cimport TISS_F32, table


cdef enum:
    TOGETHER = 16  # rows of a table that one thread takes at once, at most
    NARROW = 64  # columns that it takes, at least
    PARTS = 4  # for each thread, at least


cdef void copy_row(const array_t* rows, long row, long C, float* h) noexcept nogil:
    """A row as floats; one that is stored in two bytes is added to nothing."""
    if rows.type == TISS_F32:
        memcpy(h, at(rows, row * C), C * sizeof(float))
        return
    memset(h, 0, C * sizeof(float))
    table().of[rows.type].residual(NULL, 0, 0, h, at(rows, row * C), <int> C)


def embedding_forward(
    const int32_t[:, ::1] tokens_BT,  # IN
    token_VC,  # IN, stored
    const float[:, ::1] position_TC or None,  # IN
    float[:, ::1] h_NC,  # OUT
    const int32_t[:, ::1] start_BT or None,  # IN
    int n_threads,
):
    cdef array_t token = reads(token_VC, 2)
    cdef long T = tokens_BT.shape[1], N = tokens_BT.shape[0] * T, C = token.shape[1], n
    cdef long V = token.shape[0]
    cdef const int32_t* ids = &tokens_BT[0, 0]
    cdef const float* position = NULL if position_TC is None else &position_TC[0, 0]
    cdef const int32_t* start = NULL if start_BT is None else &start_BT[0, 0]
    for n in range(N):
        if ids[n] < 0 or ids[n] >= V:
            return 1 + n
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static'):
        copy_row(&token, ids[n], C, &h_NC[n, 0])
        if position != NULL:
            table().add(&h_NC[n, 0], position + position_of(start, n, T) * C, C)
    return 0


cdef long position_of(const int32_t* start, long n, long T) noexcept nogil:
    """The position of place n within its document; without start, within its row."""
    return n % T if start == NULL else n % T - start[n]


cdef long key_of(const int32_t* ids, const int32_t* start, long n, long T) noexcept nogil:
    return position_of(start, n, T) if ids == NULL else ids[n]


cdef void sort_places(const int32_t* ids, const int32_t* start, long N, long T, long n_keys,
                      int32_t* order, int32_t* first) noexcept nogil:
    """Places of each id, or of each position where ids is NULL, in ascending order.

    Those of key v are order[first[v]:first[v + 1]].
    """
    cdef long n, v
    memset(first, 0, (n_keys + 1) * sizeof(int32_t))
    for n in range(N):
        first[key_of(ids, start, n, T) + 1] += 1
    for v in range(n_keys):
        first[v + 1] += first[v]
    for n in range(N):  # moves every beginning to its end
        v = key_of(ids, start, n, T)
        order[first[v]] = <int32_t> n
        first[v] += 1
    for v in range(n_keys, 0, -1):
        first[v] = first[v - 1]
    first[0] = 0


cdef long rows_of_part(long rows, int n_threads) noexcept nogil:
    """How many of so many rows of a table are one part."""
    return max(<long> 1, min(<long> TOGETHER, rows // (PARTS * n_threads)))


cdef long columns_of_part(long rows, long C, int n_threads) noexcept nogil:
    """How many of C columns are one part, of so many rows: all of them, where these are many."""
    cdef long cuts = (PARTS * n_threads + rows - 1) // max(<long> 1, rows)
    return C if n_threads == 1 else min(C, max(<long> NARROW, (C // cuts + 15) // 16 * 16))


cdef struct table_t:  # whose gradient is added up, part by part
    float* rows
    const float* dh
    const int32_t* order  # of places, those of row v from first[v] on; NULL: one in each of B rows
    const int32_t* first
    long n, C, B
    long known  # rows of the table that may have occurrences
    long at_once, width
    bint accumulate


cdef long parts_of(table_t* t, long n, int n_threads) noexcept nogil:
    """Cut n rows; return the number of parts."""
    t.n = n
    t.at_once = rows_of_part(n, n_threads)
    t.width = columns_of_part(n, t.C, n_threads)
    return (n + t.at_once - 1) // t.at_once * ((t.C + t.width - 1) // t.width)


cdef void add_part(const table_t* t, long part) noexcept nogil:
    cdef long cuts = (t.C + t.width - 1) // t.width, row = part // cuts * t.at_once, i, v
    cdef long column = part % cuts * t.width, width = min(t.width, t.C - column)
    cdef float* total
    for v in range(row, min(row + t.at_once, t.n)):
        total = t.rows + v * t.C + column
        if not t.accumulate:
            memset(total, 0, width * sizeof(float))
        if t.order != NULL and v < t.known:
            for i in range(t.first[v], t.first[v + 1]):
                table().add(total, t.dh + t.order[i] * t.C + column, width)
        elif t.order == NULL and v < t.known:
            for i in range(t.B):
                table().add(total, t.dh + (i * t.known + v) * t.C + column, width)


def embedding_backward(
    const int32_t[:, ::1] tokens_BT,  # IN
    const float[:, ::1] dh_NC,  # IN
    float[:, ::1] dtoken_VC or None,  # OUT, or IN and OUT with accumulate_token
    float[:, ::1] dposition_TC or None,  # the same with accumulate_position
    int32_t[::1] order_N,  # scratch
    int32_t[::1] first_V,  # scratch, V + 1; with start at least T + 1
    bint accumulate_token,
    bint accumulate_position,
    const int32_t[:, ::1] start_BT or None,  # IN
    int n_threads,
):
    cdef long B = tokens_BT.shape[0], T = tokens_BT.shape[1], N = extent(B * T), V, part, parts
    cdef const int32_t* start
    cdef table_t t
    t.dh, t.C, t.B = &dh_NC[0, 0], dh_NC.shape[1], B
    if dtoken_VC is not None:
        t.rows, t.accumulate, V = &dtoken_VC[0, 0], accumulate_token, dtoken_VC.shape[0]
        with nogil:
            sort_places(&tokens_BT[0, 0], NULL, N, T, V, &order_N[0], &first_V[0])
            t.order, t.first, t.known = &order_N[0], &first_V[0], V
            parts = parts_of(&t, V, n_threads)
            for part in prange(parts, num_threads=n_threads, schedule='dynamic', chunksize=1):
                add_part(&t, part)
    if dposition_TC is not None:
        t.rows, t.accumulate = &dposition_TC[0, 0], accumulate_position
        start = NULL if start_BT is None else &start_BT[0, 0]
        with nogil:
            t.order, t.known = NULL, T
            if start != NULL:
                sort_places(NULL, start, N, T, T, &order_N[0], &first_V[0])
                t.order, t.first = &order_N[0], &first_V[0]
            parts = parts_of(&t, dposition_TC.shape[0], n_threads)
            for part in prange(parts, num_threads=n_threads, schedule='dynamic', chunksize=1):
                add_part(&t, part)
