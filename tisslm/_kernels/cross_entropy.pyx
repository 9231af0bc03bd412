"""Losses over rows of logits, each row finished while it is in cache.

Forward: loss = w (lse - x_target); with smoothing e,
w ((1 - e) (lse - x_target) + e (lse - mean x)).
Backward, in place: w softmax(x) - w e / V, and w (1 - e) less at the target.
Focal: w (1 - p)^g (lse - x_target) with p = softmax(x)_target.
Rank: how many logits are greater than the target's.
Split: rows.
"""

from cython.parallel cimport prange
from libc.math cimport expm1, logf, pow
from libc.stdint cimport int32_t
from libc.string cimport memset

from tisslm._kernels.arrays cimport extent
from tisslm._kernels.isa cimport table

cdef enum:
    IGNORE = -100


cdef long first_bad(const int32_t* targets, long N, long V) noexcept nogil:
    """Return 1 + the first row whose target is neither -100 nor an id, 0 if there is none."""
    cdef long n
    for n in range(N):
        if targets[n] != IGNORE and (targets[n] < 0 or targets[n] >= V):
            return 1 + n
    return 0


cdef float row_lse(const float* x, long V) noexcept nogil:
    cdef float top = table().max(x, V)
    return top + logf(table().exp_sum(x, top, V))


cdef float cross_entropy_row(float* x, int target, float weight, float e, bint gradient,
                             long V) noexcept nogil:
    cdef float lse, loss
    if target == IGNORE:
        if gradient:
            memset(x, 0, V * sizeof(float))  # whatever it holds, NaN too
        return 0.0
    lse = row_lse(x, V)
    loss = weight * (1.0 - e) * (lse - x[target])
    if e > 0.0:
        loss = loss + weight * e * (lse - table().sum(x, V) / V)
    if gradient:
        table().softmax_scale(x, lse, weight, weight * e / V, V)
        x[target] -= weight * (1.0 - e)
    return loss


def cross_entropy_tile(
    float[:, ::1] logits_NV,  # IN, and OUT with gradient
    const int32_t[::1] targets_N,  # IN
    const float[::1] weights_N,  # IN
    float[::1] losses_N,  # OUT
    float label_smoothing,
    bint gradient,
    int n_threads,
):
    cdef long N = logits_NV.shape[0], V = logits_NV.shape[1], n
    cdef long bad = first_bad(&targets_N[0], N, V)
    if bad:
        return bad
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static'):
        losses_N[n] = cross_entropy_row(&logits_NV[n, 0], targets_N[n], weights_N[n],
                                        label_smoothing, gradient, V)
    return 0


cdef float focal_row(float* x, int target, float weight, double gamma, bint gradient,
                     long V) noexcept nogil:
    cdef double log_p, p, q, slope
    cdef float lse
    if target == IGNORE:
        if gradient:
            memset(x, 0, V * sizeof(float))  # whatever it holds, NaN too
        return 0.0
    lse = row_lse(x, V)
    log_p = x[target] - lse
    q = -expm1(log_p)  # 1 - p without cancellation
    p = 1.0 - q
    if gradient:
        slope = pow(q, gamma)
        if q > 0.0:
            slope = slope - gamma * p * pow(q, gamma - 1.0) * log_p
        table().softmax_scale(x, lse, <float> (weight * slope), 0.0, V)
        x[target] -= <float> (weight * slope)
    return <float> (-weight * pow(q, gamma) * log_p)


def focal_tile(
    float[:, ::1] logits_NV,  # IN, and OUT with gradient
    const int32_t[::1] targets_N,  # IN
    const float[::1] weights_N,  # IN
    float[::1] losses_N,  # OUT
    float gamma,
    bint gradient,
    int n_threads,
):
    cdef long N = logits_NV.shape[0], V = logits_NV.shape[1], n
    cdef long bad = first_bad(&targets_N[0], N, V)
    if bad:
        return bad
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static'):
        losses_N[n] = focal_row(&logits_NV[n, 0], targets_N[n], weights_N[n], gamma, gradient, V)
    return 0


def log_sum_exp(
    const float[:, ::1] logits_NV,  # IN
    float[::1] lse_N,  # OUT
    int n_threads,
):
    cdef long n, V = logits_NV.shape[1]
    for n in prange(logits_NV.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        lse_N[n] = row_lse(&logits_NV[n, 0], V)


def softmax_gradient(
    float[:, ::1] logits_NV,  # IN and OUT
    const float[::1] lse_N,  # IN
    const int32_t[::1] targets_N,  # IN
    const float[::1] coefficient_N,  # IN
    const float[::1] target_coefficient_N,  # IN
    int n_threads,
):
    cdef long n, V = logits_NV.shape[1]
    for n in prange(logits_NV.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().softmax_scale(&logits_NV[n, 0], lse_N[n], coefficient_N[n], 0.0, V)
        if targets_N[n] >= 0 and targets_N[n] < V:
            logits_NV[n, targets_N[n]] -= target_coefficient_N[n]


def target_rank(
    const float[:, ::1] logits_NV,  # IN
    const int32_t[::1] targets_N,  # IN
    int32_t[::1] ranks_N,  # OUT
    int n_threads,
):
    cdef long N = logits_NV.shape[0], V = extent(logits_NV.shape[1]), n
    cdef long bad = first_bad(&targets_N[0], N, V)
    if bad:
        return bad
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static'):
        if targets_N[n] == IGNORE:
            ranks_N[n] = -1
        else:
            ranks_N[n] = <int32_t> table().rank(&logits_NV[n, 0], targets_N[n], V)
    return 0
