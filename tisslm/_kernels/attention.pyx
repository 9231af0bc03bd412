"""Multi-head attention: out = softmax(scale Q K^T) V per head, with an online softmax.

With start, query t sees the keys from start[t] to t: those of its document, or of a sliding
window, or of both, max(document, t - W + 1). With stop, it sees those from start[t] to stop[t] - 1,
later ones, too. All that is asked is 0 <= start[t] <= t < stop[t] <= T, and that neither decreases
along a row. Tiles of keys that no query of a tile sees are not touched.
Only the log-sum-exp of each row is kept; backward computes the scores again:
dS = P (dP - rowsum(dP P)) scale; dQ = dS K; dK = dS^T Q; dV = P^T dO. So does the entropy.
qkv, out and their gradients are stored as float32, bfloat16 or float16, alike in one call.
Each returns 0, or -n where it needs n floats of scratch per thread and does not have them.
Split: forward and the entropy by (sample, head, tile of 64 queries); backward by (sample, head),
each with key tiles ascending and queries ascending within, so that every sum has one fixed order.
Where heads of the last turn would leave many threads without one, they are cut in pieces, some of
which own tiles of keys, dk and dv, others tiles of queries, dq, and sums are the same. Both compute
scores, in one loop; or, where more than half of the threads have a head, those of queries come
first and leave P and dS of all pairs of tiles in the threads' scratch, if that has room.
Where heads share a key head, each leaves its dk and dv in dkv, and these are added in the order of
the heads. A thread takes all the heads of a key head, or M heads of the batch are shared out and
then tiles of keys: the bits depend neither on that, nor on M or the number of threads or samples.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy

from tisslm._kernels.arrays cimport (
    alike,
    array_t,
    at,
    extent,
    floats,
    floats_out,
    integers,
    nothing,
    reads,
    writes,
)
from tisslm._kernels.dropout cimport stream
from tisslm._kernels.isa cimport TISS_PAIR, TISS_TILE, table, tiss_attention, tiss_dropout
from tisslm._kernels.threads cimport FEW, scratch, scratch_floats, scratch_of_all, thread_number


# Key heads for each thread from which on a thread takes one with all its query heads: with fewer,
# some would wait at the end. Bits are those of the other way.
cdef enum:
    KEY_HEADS = 4
    # Pieces of backward for each thread, where heads are cut: they have unequal work.
    PIECES = 3
    STEPS = 70  # percent of the threads, at most, that have a head where these go in two steps


cdef tiss_attention problem(const array_t* qkv, int n_head, int n_kv_head, float scale) except *:
    cdef tiss_attention a
    a.T = <int> qkv.shape[1]
    a.row = qkv.shape[2]
    # elements of a tile of a head are counted as rows are
    a.D = extent(a.row // (n_head + 2 * n_kv_head) * TISS_TILE) // TISS_TILE
    a.n_head = n_head
    a.n_kv_head = n_kv_head
    a.out_row = <long> n_head * a.D
    a.scale = scale
    a.dropout = NULL
    a.sample = 0
    a.start = NULL
    a.stop = NULL
    a.piece, a.pieces, a.step = 0, 1, 0
    return a


cdef int bound(tiss_attention* a, object start_BT, object stop_BT) except -1:
    """Keep what the queries see of the first sample, where it is not the causal half of a row."""
    a.start = NULL if start_BT is None else integers(start_BT, 2)
    a.stop = NULL if stop_BT is None else integers(stop_BT, 2)
    return 0


cdef tiss_attention of_sample(const tiss_attention* a, long b,
                              uint32_t first_row) noexcept nogil:
    cdef tiss_attention p = a[0]
    p.sample = first_row + <uint32_t> b
    if a.start != NULL:
        p.start = a.start + b * a.T
    if a.stop != NULL:
        p.stop = a.stop + b * a.T
    return p


cdef void forward_tile(const tiss_attention* a, long b, int head, int tile, const array_t* qkv,
                       const array_t* out, float* lse, uint32_t first_row) noexcept nogil:
    cdef tiss_attention p = of_sample(a, b, first_row)
    table().of[qkv.type].attention_forward(
        &p, head, tile, at(qkv, b * p.T * p.row), <void*> at(out, b * p.T * p.out_row),
        lse + (b * p.n_head + head) * p.T, scratch())


def attention_forward(
    qkv_BTE,  # IN, stored
    out_BTC,  # OUT, stored
    lse_BHT,  # OUT
    int n_head,
    int n_kv_head,
    float scale,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    start_BT,  # IN, or None
    stop_BT,  # IN, or None
    int n_threads,
):
    cdef array_t qkv = reads(qkv_BTE, 3), out = writes(out_BTC, 3), lse = floats_out(lse_BHT, 3)
    cdef tiss_attention a = problem(&qkv, n_head, n_kv_head, scale)
    cdef tiss_dropout d = stream(p, seed, update, site)
    cdef long B = qkv.shape[0], tiles = (<long> a.T + TISS_TILE - 1) // TISS_TILE, job
    cdef long needed = table().of[qkv.type].attention_scratch(a.T, a.D)
    alike(&qkv, &out)
    if needed > scratch_floats():
        return -needed
    if p > 0.0:
        a.dropout = &d
    bound(&a, start_BT, stop_BT)
    for job in prange(B * n_head * tiles, nogil=True, num_threads=n_threads, schedule='dynamic',
                      chunksize=1):
        forward_tile(&a, job // (n_head * tiles), <int> (job // tiles % n_head),
                     <int> (job % tiles), &qkv, &out, lse.floats, first_row)
    return 0


cdef struct gradient_t:  # what the jobs of backward have in common
    const tiss_attention* a
    array_t dout, qkv, out, dqkv
    const float* lse
    uint32_t first_row
    long first_kept, pairs  # the first head whose pairs of tiles are kept, and how many it has


cdef int pieces_of(const tiss_attention* a, long heads, int n_threads) noexcept nogil:
    """Into how many pieces so many heads are cut: 1, or an even number."""
    cdef long tiles = (<long> a.T + TISS_TILE - 1) // TISS_TILE
    if heads == 0 or 2 * heads > n_threads or tiles < 4:
        return 1
    return <int> (2 * min(tiles // 2, (PIECES * n_threads + 2 * heads - 1) // (2 * heads)))


cdef void backward_head(const gradient_t* g, long number, float* dkv, long piece, int pieces,
                        int step) noexcept nogil:
    """A piece of a head, whose number counts the heads of all samples."""
    cdef long b = number // g.a.n_head
    cdef tiss_attention p = of_sample(g.a, b, g.first_row)
    cdef long at_qkv = b * p.T * p.row, at_out = b * p.T * p.out_row
    p.piece, p.pieces, p.step = <int> piece, pieces, step
    p.kept_first = (number - g.first_kept) * g.pairs
    table().of[g.qkv.type].attention_backward(
        &p, <int> (number % p.n_head), at(&g.dout, at_out), at(&g.qkv, at_qkv), at(&g.out, at_out),
        g.lse + number * p.T, <void*> at(&g.dqkv, at_qkv), dkv, scratch())


cdef bint keep_in_scratch(gradient_t* g, tiss_attention* a, long first, long heads,
                          int n_threads) noexcept nogil:
    """Whether heads go in two steps, and there is room for what the first leaves to the second."""
    cdef long tiles = (<long> a.T + TISS_TILE - 1) // TISS_TILE
    cdef long turns = (heads + n_threads - 1) // n_threads, needed
    if tiles < 3 or 2 * heads <= n_threads or 100 * heads > STEPS * turns * n_threads:
        return False
    needed = (table().of[g.qkv.type].attention_scratch(a.T, a.D) + 15) // 16 * 16
    a.kept = scratch_of_all() + needed
    a.kept_slot = scratch_floats()
    a.kept_each = (a.kept_slot - needed) // TISS_PAIR
    g.first_kept = first
    g.pairs = tiles * (tiles + 1) // 2 if a.stop == NULL else tiles * tiles
    return heads * g.pairs <= a.kept_each * n_threads


cdef void backward_heads(gradient_t* g, tiss_attention* a, long first, long heads, float* dkv,
                         int n_threads) noexcept nogil:
    """Some heads, from the first on; each has its part of dkv where there is any.

    As many as threads are taken whole, turn by turn. What is left for the last turn is cut where it
    would leave half of the threads without a head and there are four tiles to share; else all may
    go in two steps.
    """
    cdef long tiles = (<long> a.T + TISS_TILE - 1) // TISS_TILE, job, size = 0
    cdef long rest = heads % n_threads, whole = heads - rest
    cdef int pieces = pieces_of(a, rest, n_threads)
    if dkv != NULL:
        size = 2 * <long> a.T * a.D
    if pieces == 1:
        whole = heads
    if pieces == 1 and keep_in_scratch(g, a, first, heads, n_threads):  # the longest pieces first
        for job in prange(heads * tiles, num_threads=n_threads, schedule='dynamic', chunksize=1):
            backward_head(g, first + job % heads, NULL, tiles - 1 - job // heads, <int> tiles, 1)
        for job in prange(heads * tiles, num_threads=n_threads, schedule='dynamic', chunksize=1):
            backward_head(g, first + job % heads, dkv + job % heads * size, job // heads,
                          <int> tiles, 2)
        return
    for job in prange(whole + (heads - whole) * pieces, num_threads=n_threads, schedule='dynamic',
                      chunksize=1):
        if job < whole:
            backward_head(g, first + job, dkv + job * size, 0, 1, 0)
        else:
            backward_head(g, first + whole + (job - whole) // pieces,
                          dkv + (whole + (job - whole) // pieces) * size, (job - whole) % pieces,
                          pieces, 0)


cdef void add_heads(const gradient_t* g, long b, int kv_head, int tile, float* dkv) noexcept nogil:
    table().of[g.dqkv.type].attention_add_heads(
        g.a, kv_head, tile, dkv, <void*> at(&g.dqkv, b * g.a.T * g.a.row))


cdef void backward_group(const gradient_t* g, long b, int kv_head, float* dkv) noexcept nogil:
    """All heads of a key head, in the thread's own part of dkv, which stays in its cache."""
    cdef int group = g.a.n_head // g.a.n_kv_head, i, tile
    cdef long size = 2 * <long> g.a.T * g.a.D
    dkv += thread_number() * group * size
    for i in range(group):
        backward_head(g, b * g.a.n_head + kv_head * group + i, dkv + i * size, 0, 1, 0)
    for tile in range((g.a.T + TISS_TILE - 1) // TISS_TILE):
        add_heads(g, b, kv_head, tile, dkv)


cdef void backward_grouped(gradient_t* g, tiss_attention* a, long B, float* dkv, long M,
                           int n_threads) noexcept nogil:
    """Let a thread take a key head with its query heads; where there are few, one query head."""
    cdef long K = a.n_kv_head, group = a.n_head // K, total = B * K, at_once = M // group
    cdef long tiles = (<long> a.T + TISS_TILE - 1) // TISS_TILE, size = 2 * <long> a.T * a.D
    cdef long done = 0, now, job
    if n_threads <= at_once and (n_threads == 1 or total >= KEY_HEADS * n_threads):
        for job in prange(total, num_threads=n_threads, schedule='dynamic', chunksize=1):
            backward_group(g, job // K, <int> (job % K), dkv)
        return
    while done < total:
        now = min(at_once, total - done)
        backward_heads(g, a, done * group, now * group, dkv, n_threads)
        for job in prange(now * tiles, num_threads=n_threads, schedule='static'):
            add_heads(g, (done + job // tiles) // K, <int> ((done + job // tiles) % K),
                      <int> (job % tiles), dkv + job // tiles * group * size)
        done += now


def attention_backward(
    dout_BTC,  # IN, stored
    qkv_BTE,  # IN, stored
    out_BTC,  # IN, stored
    lse_BHT,  # IN
    dqkv_BTE,  # OUT, stored
    int n_head,
    int n_kv_head,
    float scale,
    double p,
    uint64_t seed,
    uint32_t update,
    uint32_t site,
    uint32_t first_row,
    start_BT,  # IN, or None
    stop_BT,  # IN, or None
    dkv_M2TD,  # scratch, or None
    int n_threads,
):
    cdef gradient_t g
    cdef array_t qkv = reads(qkv_BTE, 3)
    cdef array_t dkv = nothing() if dkv_M2TD is None else floats_out(dkv_M2TD, 4)
    cdef tiss_attention a = problem(&qkv, n_head, n_kv_head, scale)
    cdef tiss_dropout d = stream(p, seed, update, site)
    cdef long needed = table().of[qkv.type].attention_scratch(a.T, a.D), B = qkv.shape[0]
    if needed > scratch_floats():
        return -needed
    if p > 0.0:
        a.dropout = &d
    bound(&a, start_BT, stop_BT)
    g.first_kept = g.pairs = 0
    g.a, g.lse, g.first_row = &a, floats(lse_BHT, 3).floats, first_row
    g.dout, g.qkv, g.out, g.dqkv = reads(dout_BTC, 3), qkv, reads(out_BTC, 3), writes(dqkv_BTE, 3)
    alike(&qkv, &g.dout)
    alike(&qkv, &g.out)
    alike(&qkv, &g.dqkv)
    if n_head > n_kv_head:
        if dkv.shape[0] < n_head // n_kv_head:  # 0 of nothing
            return 1
        with nogil:
            backward_grouped(&g, &a, B, dkv.floats, dkv.shape[0], n_threads)
        return 0
    with nogil:
        backward_heads(&g, &a, 0, B * n_head, NULL, n_threads)
    return 0


cdef void entropy_tile(const tiss_attention* a, long b, int head, int tile, const array_t* qkv,
                       const float* lse, float* entropy) noexcept nogil:
    cdef tiss_attention p = of_sample(a, b, 0)
    cdef long row = (b * p.n_head + head) * p.T
    table().of[qkv.type].attention_entropy(&p, head, tile, at(qkv, b * p.T * p.row), lse + row,
                                           entropy + row, scratch())


def attention_entropy(
    qkv_BTE,  # IN, stored
    lse_BHT,  # IN
    entropy_BHT,  # OUT
    int n_head,
    int n_kv_head,
    float scale,
    start_BT,  # IN, or None
    stop_BT,  # IN, or None
    int n_threads,
):
    cdef array_t qkv = reads(qkv_BTE, 3), lse = floats(lse_BHT, 3)
    cdef array_t entropy = floats_out(entropy_BHT, 3)
    cdef tiss_attention a = problem(&qkv, n_head, n_kv_head, scale)
    cdef long B = qkv.shape[0], tiles = (<long> a.T + TISS_TILE - 1) // TISS_TILE, job
    cdef long needed = table().of[qkv.type].attention_scratch(a.T, a.D)
    if needed > scratch_floats():
        return -needed
    bound(&a, start_BT, stop_BT)
    for job in prange(B * n_head * tiles, nogil=True, num_threads=n_threads, schedule='dynamic',
                      chunksize=1):
        entropy_tile(&a, job // (n_head * tiles), <int> (job // tiles % n_head),
                     <int> (job % tiles), &qkv, lse.floats, entropy.floats)
    return 0


def attention_decode(
    qkv_BE,  # IN
    k_BKSD,  # IN and OUT: row `position` of each sample is written
    v_BKSD,  # the same
    out_BC,  # OUT
    position_B,  # IN
    int n_head,
    int n_kv_head,
    float scale,
    first_B,  # IN
    int n_threads,
):
    cdef array_t qkv = floats(qkv_BE, 2), out = floats_out(out_BC, 2)
    cdef array_t k = floats_out(k_BKSD, 4), v = floats_out(v_BKSD, 4)
    cdef const int32_t* position = integers(position_B, 1)
    cdef const int32_t* first = integers(first_B, 1)
    cdef int D = <int> k.shape[3], group = n_head // n_kv_head
    cdef long B = qkv.shape[0], E = qkv.shape[1], C = out.shape[1], S = k.shape[2]
    cdef long b, h, job, most = 0, pairs = 0, seen
    for b in range(B):
        seen = <long> position[b] + 1 - first[b]
        most = max(most, seen)
        pairs += seen * n_head
    if most > scratch_floats():  # one score for each key
        return -most
    for b in range(B):
        for h in range(n_kv_head):
            job = ((b * n_kv_head + h) * S + position[b]) * D
            memcpy(k.floats + job, qkv.floats + b * E + (n_head + h) * D, D * sizeof(float))
            memcpy(v.floats + job, qkv.floats + b * E + (n_head + n_kv_head + h) * D,
                   D * sizeof(float))
    for job in prange(B * n_head, nogil=True, num_threads=n_threads, schedule='static',
                      use_threads_if=pairs * D > 4 * FEW):
        b = job // n_head
        h = job % n_head
        seen = ((b * n_kv_head + h // group) * S + first[b]) * D
        table().attention_decode(
            qkv.floats + b * E + h * D, k.floats + seen, v.floats + seen,
            out.floats + b * C + h * D, position[b] + 1 - first[b], D, scale, scratch())
    return 0
