"""Losses over rows of logits, each row finished while it is in cache.

With top = max x and total = sum exp(x - top), softmax(x) is exp(x - top) / total. The maximum is
subtracted first everywhere and never added again: a log-sum-exp would be rounded at the size of
the logits, and an offset common to all of them, which softmax does not see, would cost digits.

Forward: loss = w (log total - (x_target - top)); with smoothing e,
w ((1 - e) (log total - (x_target - top)) + e (log total - mean (x - top))).
Backward, in place: w softmax(x) - w e / V, and w (1 - e) less at the target.
Focal: w (1 - p)^g (log total - (x_target - top)) with p = softmax(x)_target.
Rank: how many logits are greater than the target's.
Split: rows.
"""

from cython.parallel cimport prange
from libc.math cimport expm1, log, logf, pow
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


cdef float cross_entropy_row(float* x, int target, float weight, float e, bint gradient,
                             long V) noexcept nogil:
    cdef float top, total, log_total, loss
    if target == IGNORE:
        if gradient:
            memset(x, 0, V * sizeof(float))  # whatever it holds, NaN too
        return 0.0
    top = table().max(x, V)
    total = table().exp_sum(x, top, V)
    log_total = logf(total)
    loss = weight * (1.0 - e) * (log_total - (x[target] - top))
    if e > 0.0:
        loss = loss + weight * e * (log_total - table().sum(x, top, V) / V)
    if gradient:
        table().softmax_scale(x, top, weight / total, weight * e / V, V)
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
    cdef float top, total
    if target == IGNORE:
        if gradient:
            memset(x, 0, V * sizeof(float))  # whatever it holds, NaN too
        return 0.0
    top = table().max(x, V)
    total = table().exp_sum(x, top, V)
    log_p = (x[target] - top) - log(total)
    q = -expm1(log_p)  # 1 - p without cancellation
    p = 1.0 - q
    if gradient:
        slope = pow(q, gamma)
        if q > 0.0:
            slope = slope - gamma * p * pow(q, gamma - 1.0) * log_p
        table().softmax_scale(x, top, <float> (weight * slope / total), 0.0, V)
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


def exp_sum(
    const float[:, ::1] logits_NV,  # IN
    float[::1] top_N,  # OUT
    float[::1] total_N,  # OUT
    int n_threads,
):
    cdef long n, V = logits_NV.shape[1]
    for n in prange(logits_NV.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        top_N[n] = table().max(&logits_NV[n, 0], V)
        total_N[n] = table().exp_sum(&logits_NV[n, 0], top_N[n], V)


def softmax_gradient(
    float[:, ::1] logits_NV,  # IN and OUT
    const float[::1] top_N,  # IN
    const float[::1] total_N,  # IN
    const int32_t[::1] targets_N,  # IN
    const float[::1] coefficient_N,  # IN
    const float[::1] target_coefficient_N,  # IN
    int n_threads,
):
    cdef long n, V = logits_NV.shape[1]
    for n in prange(logits_NV.shape[0], nogil=True, num_threads=n_threads, schedule='static'):
        table().softmax_scale(&logits_NV[n, 0], top_N[n], coefficient_N[n] / total_N[n], 0.0, V)
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
