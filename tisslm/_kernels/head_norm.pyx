"""RMS norms of queries and keys: y = x rstd gamma, rstd = 1 / sqrt(mean(x^2) + eps).

The mean runs over as many channels as gamma has: those of a head, which share gamma, or of all.
Backward: g = dy gamma, n = x rstd; dx = rstd (g - n mean(g n)); dgamma += sum dy n.
qkv, its result and their gradients are stored alike, as float32, bfloat16 or float16; values are
copied, unless the result is the array itself.
Split: rows, in backward in blocks of 64 that also hold the partial sums of dgamma, in which the
heads of a row are added in order; these are added by columns in block order.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from tisslm._kernels.arrays cimport alike, array_t, at, extent, reads, writes
from tisslm._kernels.isa cimport TISS_F32, table
from tisslm._kernels.norm cimport COLUMNS, ROWS, add_partials
from tisslm._kernels.threads cimport FEW

# What is normalized of a row: queries and keys, of so many channels each, in norms of a width.
cdef struct part_t:
    long channels
    int norms, width

cdef struct row_t:
    part_t q, k
    long E


cdef part_t part(long channels, long width) except *:
    cdef part_t p
    p.channels = channels
    p.width = extent(width)
    p.norms = extent(channels // width)
    return p


cdef row_t row(const array_t* qkv, const float[::1] gamma_q, const float[::1] gamma_k, int n_head,
               int n_kv_head) except *:
    cdef row_t r
    cdef long D
    r.E = qkv.shape[2]
    D = r.E // (n_head + 2 * n_kv_head)
    r.q = part(n_head * D, gamma_q.shape[0])
    r.k = part(n_kv_head * D, gamma_k.shape[0])
    return r


cdef void copy_values(const row_t* r, const array_t* x, const array_t* y, long n) noexcept nogil:
    cdef long values = r.q.channels + r.k.channels
    if x.data != y.data:
        memcpy(<void*> at(y, n * r.E + values), at(x, n * r.E + values),
               (r.E - values) * (4 if x.type == TISS_F32 else 2))


def head_norm_forward(
    qkv_BTE,  # IN, stored
    const float[::1] gamma_q,  # IN
    const float[::1] gamma_k,  # IN
    float[:, ::1] rstd_NU,  # OUT
    out_BTE,  # OUT, stored; may be qkv_BTE
    int n_head,
    int n_kv_head,
    float eps,
    int n_threads,
):
    cdef array_t x = reads(qkv_BTE, 3), y = writes(out_BTE, 3)
    cdef row_t r = row(&x, gamma_q, gamma_k, n_head, n_kv_head)
    cdef long n, k = r.q.channels
    alike(&x, &y)
    for n in prange(rstd_NU.shape[0], nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=rstd_NU.shape[0] * r.E > FEW):
        table().of[x.type].head_norm_forward(
            at(&x, n * r.E), &gamma_q[0], &rstd_NU[n, 0], <void*> at(&y, n * r.E), r.q.norms,
            r.q.width, eps)
        table().of[x.type].head_norm_forward(
            at(&x, n * r.E + k), &gamma_k[0], &rstd_NU[n, r.q.norms],
            <void*> at(&y, n * r.E + k), r.k.norms, r.k.width, eps)
        copy_values(&r, &x, &y, n)


def head_norm_backward(
    dout_BTE,  # IN, stored
    qkv_BTE,  # IN, stored
    const float[::1] gamma_q,  # IN
    const float[::1] gamma_k,  # IN
    const float[:, ::1] rstd_NU,  # IN
    dqkv_BTE,  # OUT, stored; may be dout_BTE
    float[::1] dgamma_q or None,  # OUT, or IN and OUT with accumulate
    float[::1] dgamma_k or None,  # the same
    float[:, ::1] partial_KW,  # scratch
    int n_head,
    int n_kv_head,
    bint accumulate,
    int n_threads,
):
    cdef array_t dy = reads(dout_BTE, 3), x = reads(qkv_BTE, 3), dx = writes(dqkv_BTE, 3)
    cdef row_t r = row(&x, gamma_q, gamma_k, n_head, n_kv_head)
    cdef long rows = rstd_NU.shape[0], blocks = (rows + ROWS - 1) // ROWS, block, n, first
    cdef long k = r.q.channels, wide = max(r.q.width, r.k.width)
    # the partial sums of queries, a row for each block, and then those of keys
    cdef float* partial_q = &partial_KW[0, 0]
    cdef float* partial_k = partial_q + blocks * r.q.width
    alike(&x, &dy)
    alike(&x, &dx)
    cdef float* dq = NULL if dgamma_q is None else &dgamma_q[0]
    cdef float* dk = NULL if dgamma_k is None else &dgamma_k[0]
    with nogil:
        for block in prange(blocks, num_threads=n_threads, schedule='static'):
            memset(partial_q + block * r.q.width, 0, r.q.width * sizeof(float))
            memset(partial_k + block * r.k.width, 0, r.k.width * sizeof(float))
            for n in range(block * ROWS, min(block * ROWS + ROWS, rows)):
                table().of[x.type].head_norm_backward(
                    at(&dy, n * r.E), at(&x, n * r.E), &gamma_q[0], &rstd_NU[n, 0],
                    <void*> at(&dx, n * r.E), partial_q + block * r.q.width, r.q.norms,
                    r.q.width)
                table().of[x.type].head_norm_backward(
                    at(&dy, n * r.E + k), at(&x, n * r.E + k), &gamma_k[0],
                    &rstd_NU[n, r.q.norms], <void*> at(&dx, n * r.E + k),
                    partial_k + block * r.k.width, r.k.norms, r.k.width)
                copy_values(&r, &dy, &dx, n)
        for first in prange((wide + COLUMNS - 1) // COLUMNS, num_threads=n_threads,
                            schedule='static'):
            if dq != NULL and first * COLUMNS < r.q.width:
                add_partials(partial_q, blocks, r.q.width, first * COLUMNS,
                             min(<long> COLUMNS, r.q.width - first * COLUMNS), dq, accumulate)
            if dk != NULL and first * COLUMNS < r.k.width:
                add_partials(partial_k, blocks, r.k.width, first * COLUMNS,
                             min(<long> COLUMNS, r.k.width - first * COLUMNS), dk, accumulate)
