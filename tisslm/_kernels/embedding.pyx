"""Token plus position embedding: h[b, t] = token[x[b, t]] + position[t].

With start, a row holds several documents and the position of a token is t - start[b, t].
Backward: each row of a table adds up dh over its occurrences in order of place.
Split: forward by rows of h; backward by vocabulary rows (after a counting sort of the ids) and
by positions (after another where documents begin anew), so that no two threads write one element.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from tisslm._kernels.arrays cimport array_t, at, extent, reads
from tisslm._kernels.isa cimport TISS_F32, table


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
    cdef long B = tokens_BT.shape[0], T = tokens_BT.shape[1], C = dh_NC.shape[1]
    cdef long N = extent(B * T), V = 0, v, i, t, b, n_positions = 0
    cdef float* dtoken = NULL
    cdef float* dposition = NULL
    cdef const int32_t* start = NULL
    if dtoken_VC is not None:
        dtoken, V = &dtoken_VC[0, 0], dtoken_VC.shape[0]
    if dposition_TC is not None:
        dposition = &dposition_TC[0, 0]
        n_positions = dposition_TC.shape[0]
        start = NULL if start_BT is None else &start_BT[0, 0]
    with nogil:
        if dtoken != NULL:
            sort_places(&tokens_BT[0, 0], NULL, N, T, V, &order_N[0], &first_V[0])
        for v in prange(V, num_threads=n_threads, schedule='dynamic', chunksize=16):
            if not accumulate_token:
                memset(dtoken + v * C, 0, C * sizeof(float))
            for i in range(first_V[v], first_V[v + 1]):
                table().add(dtoken + v * C, &dh_NC[order_N[i], 0], C)
        if start != NULL:
            sort_places(NULL, start, N, T, T, &order_N[0], &first_V[0])
        for t in prange(n_positions, num_threads=n_threads, schedule='dynamic', chunksize=16):
            if not accumulate_position:
                memset(dposition + t * C, 0, C * sizeof(float))
            if t < T and start == NULL:
                for b in range(B):
                    table().add(dposition + t * C, &dh_NC[b * T + t, 0], C)
            elif t < T:
                for i in range(first_V[t], first_V[t + 1]):
                    table().add(dposition + t * C, &dh_NC[order_N[i], 0], C)
