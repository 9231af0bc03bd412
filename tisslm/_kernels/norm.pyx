"""Normalization of rows, over their channels.

Layer norm: y = (x - mean) rstd gamma + beta. Backward: xhat = (x - mean) rstd; g = dy gamma;
dx = rstd (g - mean(g) - xhat mean(g xhat)) + dres; dgamma += sum dy xhat; dbeta += sum dy.
RMS norm: y = x rstd gamma with rstd = 1 / sqrt(mean(x^2) + eps). Backward: n = x rstd;
g = dy gamma; dx = rstd (g - n mean(g n)) + dres; dgamma += sum dy n.

Forward reads the residual stream h and keeps what it normalizes: x, the stream as it is stored
(float32, bfloat16 or float16). Without x the stream itself is normalized.
Split: rows, in blocks of 64 that also hold the partial sums of dgamma and dbeta; these are added
by columns in block order. With fewer blocks than threads, the rows of dx are split, and beside them
the blocks' sums by columns, too: the same sums, and what both need is computed twice. Whoever is
done with the last block of some columns adds these up, so that threads meet once.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from tisslm._kernels.arrays cimport (
    alike,
    array_t,
    at,
    floats,
    floats_out,
    nothing,
    reads,
    writes,
)
from tisslm._kernels.isa cimport table
from tisslm._kernels.threads cimport FEW, scratch, scratch_floats

cdef extern from *:
    """
    /* Count one more, and see what those have written who counted before. */
    static inline long tiss_count(long *done)
    {
        return __atomic_add_fetch(done, 1, __ATOMIC_ACQ_REL);
    }
    """
    long tiss_count(long* done) noexcept nogil

cdef enum:
    MOST_CUTS = 64
    NARROW = 32  # columns that one thread sums at once, or some times as many, where blocks are few
    SHORT = 4  # rows of dx that it takes at a time there
    MANY = 8  # threads from which on they add few columns each


def layer_norm_forward(
    h_NC,  # IN
    gamma_C,  # IN
    beta_C,  # IN or None
    x_NC,  # OUT, stored, or None
    y_NC,  # OUT, stored
    mean_N,  # OUT
    rstd_N,  # OUT
    float eps,
    int n_threads,
):
    cdef array_t h = floats(h_NC, 2), y = writes(y_NC, 2)
    cdef array_t x = nothing() if x_NC is None else writes(x_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1)
    cdef array_t beta = nothing() if beta_C is None else floats(beta_C, 1)
    cdef array_t mean = floats_out(mean_N, 1), rstd = floats_out(rstd_N, 1)
    cdef long N = h.shape[0], n
    cdef int C = <int> h.shape[1]
    alike(&y, &x)
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=N * C > FEW):
        table().of[y.type].layer_norm_forward(
            h.floats + n * C, gamma.floats, beta.floats, <void*> at(&x, n * C),
            <void*> at(&y, n * C), mean.floats + n, rstd.floats + n, C, eps)


def layer_norm_apply(
    x_NC,  # IN, stored
    gamma_C,  # IN
    beta_C,  # IN or None
    mean_N,  # IN
    rstd_N,  # IN
    y_NC,  # OUT, stored as x
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), y = writes(y_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1)
    cdef array_t beta = nothing() if beta_C is None else floats(beta_C, 1)
    cdef array_t mean = floats(mean_N, 1), rstd = floats(rstd_N, 1)
    cdef long n
    cdef int C = <int> x.shape[1]
    alike(&x, &y)
    for n in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[x.type].layer_norm_apply(at(&x, n * C), gamma.floats, beta.floats,
                                            mean.floats[n], rstd.floats[n], <void*> at(&y, n * C),
                                            C)


cdef void add_partials(const float* partial, long blocks, long C, long first, long width,
                       float* total, bint accumulate) noexcept nogil:
    cdef long stop = first + width, block, c
    if not accumulate:
        memset(total + first, 0, width * sizeof(float))
    for block in range(blocks):
        for c in range(first, stop):
            total[c] += partial[block * C + c]


cdef struct backward_t:  # what the parts of backward have in common
    array_t x
    const float* dy
    const float* gamma
    const float* mean  # NULL for the root mean square
    const float* rstd
    const float* dres
    float* dx
    float* dgamma
    float* dbeta
    float* partial
    float* partial_b
    bint accumulate


cdef bint blocks_are_few(const backward_t* g, long blocks, int n_threads) noexcept nogil:
    """Whether a third of the threads, or more, would have no block while others have their last.

    Where dx replaces dy, the sums must be there before it.
    """
    return (n_threads > 1 and g.dx != g.dy and max(NARROW, g.x.shape[1]) <= scratch_floats()
            and 2 * n_threads * ((blocks + n_threads - 1) // n_threads) >= 3 * blocks)


cdef void backward_row(const backward_t* g, long n, long first, long width, const float* dres,
                       float* dx, float* dgamma, float* dbeta) noexcept nogil:
    """A row, or so many of its columns: then only the sums mean anything."""
    cdef long i = n * g.x.shape[1] + first
    if g.mean == NULL:
        table().of[g.x.type].rms_norm_backward(g.dy + i, at(&g.x, i), g.gamma + first, g.rstd[n],
                                               dres, dx, dgamma, <int> width)
    else:
        table().of[g.x.type].layer_norm_backward(g.dy + i, at(&g.x, i), g.gamma + first,
                                                 g.mean[n], g.rstd[n], dres, dx, dgamma, dbeta,
                                                 <int> width)


cdef void backward_block(const backward_t* g, long block) noexcept nogil:
    """dx of a block of rows, and its partial sums."""
    cdef long C = g.x.shape[1], n, i
    cdef float* partial = g.partial + block * C
    cdef float* partial_b = NULL if g.partial_b == NULL else g.partial_b + block * C
    memset(partial, 0, C * sizeof(float))
    if partial_b != NULL:
        memset(partial_b, 0, C * sizeof(float))
    for n in range(block * ROWS, min(block * ROWS + ROWS, g.x.shape[0])):
        i = n * C
        backward_row(g, n, 0, C, NULL if g.dres == NULL else g.dres + i, g.dx + i, partial,
                     partial_b)


cdef void backward_short(const backward_t* g, long job) noexcept nogil:
    """dx of a few rows; their sums go where nobody looks."""
    cdef long C = g.x.shape[1], n, i
    cdef float* unused = scratch()
    for n in range(job * SHORT, min(job * SHORT + SHORT, g.x.shape[0])):
        i = n * C
        backward_row(g, n, 0, C, NULL if g.dres == NULL else g.dres + i, g.dx + i, unused, NULL)


cdef void backward_narrow(const backward_t* g, long block, long first, long width) noexcept nogil:
    """A block's partial sums of some columns; their dx goes where nobody looks."""
    cdef long C = g.x.shape[1], n, at_ = block * C + first
    cdef float* partial = g.partial + at_
    cdef float* partial_b = NULL if g.partial_b == NULL else g.partial_b + at_
    width = min(width, C - first)
    memset(partial, 0, width * sizeof(float))
    if partial_b != NULL:
        memset(partial_b, 0, width * sizeof(float))
    for n in range(block * ROWS, min(block * ROWS + ROWS, g.x.shape[0])):
        backward_row(g, n, first, width, NULL, scratch(), partial, partial_b)


cdef void add_columns(const backward_t* g, long first, long width) noexcept nogil:
    """Add the blocks' sums of some columns to dgamma and dbeta, where these are wanted."""
    cdef long C = g.x.shape[1], blocks = (g.x.shape[0] + ROWS - 1) // ROWS
    if g.dgamma != NULL:
        add_partials(g.partial, blocks, C, first, width, g.dgamma, g.accumulate)
    if g.dbeta != NULL:
        add_partials(g.partial_b, blocks, C, first, width, g.dbeta, g.accumulate)


cdef void backward_rows(const backward_t* g, int n_threads) noexcept nogil:
    cdef long rows = g.x.shape[0], C = g.x.shape[1], job, blocks = (rows + ROWS - 1) // ROWS
    cdef long cuts, width, at_once = COLUMNS if n_threads < MANY else NARROW
    cdef long done[MOST_CUTS]  # blocks whose sums are there, of each cut
    if blocks_are_few(g, blocks, n_threads):
        width = (max(C * blocks // n_threads, C // MOST_CUTS) + NARROW) // NARROW * NARROW
        cuts = (C + width - 1) // width
        memset(done, 0, sizeof(done))
        for job in prange(blocks * cuts + (rows + SHORT - 1) // SHORT, num_threads=n_threads,
                          schedule='dynamic', chunksize=1):
            if job >= blocks * cuts:
                backward_short(g, job - blocks * cuts)
                continue
            backward_narrow(g, job // cuts, job % cuts * width, width)
            if tiss_count(&done[job % cuts]) == blocks:
                add_columns(g, job % cuts * width, min(width, C - job % cuts * width))
        return
    for job in prange(blocks, num_threads=n_threads, schedule='static'):
        backward_block(g, job)
    for job in prange((C + at_once - 1) // at_once, num_threads=n_threads, schedule='static'):
        add_columns(g, job * at_once, min(at_once, C - job * at_once))


def layer_norm_backward(
    dy_NC,  # IN
    x_NC,  # IN, stored
    gamma_C,  # IN
    mean_N,  # IN
    rstd_N,  # IN
    dres_NC,  # IN or None; may be dx_NC
    dx_NC,  # OUT
    dgamma_C,  # OUT, or IN and OUT with accumulate, or None
    dbeta_C,  # the same
    partial_2KC,  # scratch
    bint accumulate,
    int n_threads,
):
    cdef backward_t g
    cdef array_t partial = floats_out(partial_2KC, 3)
    g.x, g.accumulate = reads(x_NC, 2), accumulate
    g.dy, g.gamma = floats(dy_NC, 2).floats, floats(gamma_C, 1).floats
    g.mean, g.rstd = floats(mean_N, 1).floats, floats(rstd_N, 1).floats
    g.dres = NULL if dres_NC is None else floats(dres_NC, 2).floats
    g.dx = floats_out(dx_NC, 2).floats
    g.dgamma = NULL if dgamma_C is None else floats_out(dgamma_C, 1).floats
    g.dbeta = NULL if dbeta_C is None else floats_out(dbeta_C, 1).floats
    g.partial = partial.floats
    g.partial_b = NULL if g.dbeta == NULL else g.partial + partial.shape[1] * g.x.shape[1]
    with nogil:
        backward_rows(&g, n_threads)


def rms_norm_forward(
    h_NC,  # IN
    gamma_C,  # IN
    x_NC,  # OUT, stored, or None
    y_NC,  # OUT, stored
    rstd_N,  # OUT
    float eps,
    int n_threads,
):
    cdef array_t h = floats(h_NC, 2), y = writes(y_NC, 2)
    cdef array_t x = nothing() if x_NC is None else writes(x_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), rstd = floats_out(rstd_N, 1)
    cdef long N = h.shape[0], n
    cdef int C = <int> h.shape[1]
    alike(&y, &x)
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=N * C > FEW):
        table().of[y.type].rms_norm_forward(h.floats + n * C, gamma.floats, <void*> at(&x, n * C),
                                            <void*> at(&y, n * C), rstd.floats + n, C, eps)


def rms_norm_apply(
    x_NC,  # IN, stored
    gamma_C,  # IN
    rstd_N,  # IN
    y_NC,  # OUT, stored as x
    int n_threads,
):
    cdef array_t x = reads(x_NC, 2), y = writes(y_NC, 2)
    cdef array_t gamma = floats(gamma_C, 1), rstd = floats(rstd_N, 1)
    cdef long n
    cdef int C = <int> x.shape[1]
    alike(&x, &y)
    for n in prange(x.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().of[x.type].rms_norm_apply(at(&x, n * C), gamma.floats, rstd.floats[n],
                                          <void*> at(&y, n * C), C)


def rms_norm_backward(
    dy_NC,  # IN
    x_NC,  # IN, stored
    gamma_C,  # IN
    rstd_N,  # IN
    dres_NC,  # IN or None; may be dx_NC
    dx_NC,  # OUT
    dgamma_C,  # OUT, or IN and OUT with accumulate, or None
    partial_KC,  # scratch
    bint accumulate,
    int n_threads,
):
    cdef backward_t g
    g.x, g.accumulate = reads(x_NC, 2), accumulate
    g.dy, g.gamma = floats(dy_NC, 2).floats, floats(gamma_C, 1).floats
    g.mean, g.rstd = NULL, floats(rstd_N, 1).floats
    g.dres = NULL if dres_NC is None else floats(dres_NC, 2).floats
    g.dx = floats_out(dx_NC, 2).floats
    g.dgamma = NULL if dgamma_C is None else floats_out(dgamma_C, 1).floats
    g.dbeta = NULL
    g.partial, g.partial_b = floats_out(partial_KC, 2).floats, NULL
    with nogil:
        backward_rows(&g, n_threads)
