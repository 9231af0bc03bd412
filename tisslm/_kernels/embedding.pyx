"""Token plus position embedding: h[b, t] = token[x[b, t]] + position[t].

Backward: each row of the table adds up dh over its occurrences in order of position.
Split: forward by rows of h; backward by vocabulary rows (after a counting sort of the ids) and
by positions, so that no two threads write one element.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from tisslm._kernels.isa cimport table


def embedding_forward(
    const int32_t[:, ::1] tokens_BT,  # IN
    const float[:, ::1] token_VC,  # IN
    const float[:, ::1] position_TC,  # IN or None
    float[:, ::1] h_NC,  # OUT
    int n_threads,
):
    cdef long T = tokens_BT.shape[1], N = tokens_BT.shape[0] * T, C = token_VC.shape[1], n
    cdef long V = token_VC.shape[0]
    cdef const int32_t* ids = &tokens_BT[0, 0]
    cdef const float* position = NULL if position_TC is None else &position_TC[0, 0]
    for n in range(N):
        if ids[n] < 0 or ids[n] >= V:
            return 1 + n
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static'):
        memcpy(&h_NC[n, 0], &token_VC[ids[n], 0], C * sizeof(float))
        if position != NULL:
            table().add(&h_NC[n, 0], position + (n % T) * C, C)
    return 0


cdef void sort_by_id(const int32_t* ids, long N, long V, int32_t* order,
                     int32_t* start) noexcept nogil:
    """Positions of each id in ascending order: order[start[v]:start[v + 1]]."""
    cdef long n, v
    memset(start, 0, (V + 1) * sizeof(int32_t))
    for n in range(N):
        start[ids[n] + 1] += 1
    for v in range(V):
        start[v + 1] += start[v]
    for n in range(N):  # moves every start to its end
        order[start[ids[n]]] = <int32_t> n
        start[ids[n]] += 1
    for v in range(V, 0, -1):
        start[v] = start[v - 1]
    start[0] = 0


def embedding_backward(
    const int32_t[:, ::1] tokens_BT,  # IN
    const float[:, ::1] dh_NC,  # IN
    float[:, ::1] dtoken_VC,  # OUT, or IN and OUT with accumulate_token
    float[:, ::1] dposition_TC,  # the same with accumulate_position, or None
    int32_t[::1] order_N,  # scratch
    int32_t[::1] start_V,  # scratch, V + 1
    bint accumulate_token,
    bint accumulate_position,
    int n_threads,
):
    cdef long B = tokens_BT.shape[0], T = tokens_BT.shape[1], C = dh_NC.shape[1]
    cdef long V = dtoken_VC.shape[0], v, i, t, b, n_positions = 0
    cdef float* dposition = NULL
    if dposition_TC is not None:
        dposition = &dposition_TC[0, 0]
        n_positions = dposition_TC.shape[0]
    with nogil:
        sort_by_id(&tokens_BT[0, 0], B * T, V, &order_N[0], &start_V[0])
        for v in prange(V, num_threads=n_threads, schedule='dynamic', chunksize=16):
            if not accumulate_token:
                memset(&dtoken_VC[v, 0], 0, C * sizeof(float))
            for i in range(start_V[v], start_V[v + 1]):
                table().add(&dtoken_VC[v, 0], &dh_NC[order_N[i], 0], C)
        for t in prange(n_positions, num_threads=n_threads, schedule='static'):
            if not accumulate_position:
                memset(dposition + t * C, 0, C * sizeof(float))
            if t < T:
                for b in range(B):
                    table().add(dposition + t * C, &dh_NC[b * T + t, 0], C)
