"""Activations: GELU, exact (y = x Phi(x)) or by the tanh formula, SiLU and squared ReLU.

Backward: dx = dy y'(x), and y again where it was not kept.
Gated, with f an activation and pre = [gate | up]: act = f(gate) up; backward:
dpre = [dact up f'(gate) | dact f(gate)], and act again.
All arrays of a call are stored alike: float32, bfloat16 or float16; those of a soft cap, which is
for logits, are float32: z <- cap tanh(z / cap), and its slope 1 - tanh(z / cap)^2.
Split: elements, in blocks of 4096; gated ones by rows.
"""

from cython.parallel cimport prange

from tisslm._kernels.arrays cimport alike, array_t, at, extent, nothing, reads, writes
from tisslm._kernels.isa cimport table
from tisslm._kernels.threads cimport FEW

cdef enum:
    BLOCK = 4096


def activation_forward(
    x_NF,  # IN, stored
    y_NF,  # OUT, stored
    int activation,
    int n_threads,
):
    cdef array_t x = reads(x_NF, 2), y = writes(y_NF, 2)
    cdef long size = x.shape[0] * x.shape[1], b
    alike(&x, &y)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static', use_threads_if=size > FEW):
        table().of[x.type].activation_forward(at(&x, b * BLOCK), <void*> at(&y, b * BLOCK),
                                              min(BLOCK, size - b * BLOCK), activation)


def activation_backward(
    x_NF,  # IN, stored
    dy_NF,  # IN, stored
    dx_NF,  # OUT, stored; may be dy_NF
    y_NF,  # OUT, stored, or None
    int activation,
    int n_threads,
):
    cdef array_t x = reads(x_NF, 2), dy = reads(dy_NF, 2)
    cdef array_t dx = writes(dx_NF, 2), y = nothing() if y_NF is None else writes(y_NF, 2)
    cdef long size = x.shape[0] * x.shape[1], b
    alike(&x, &dy)
    alike(&x, &dx)
    alike(&x, &y)
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
        table().of[x.type].activation_backward(
            at(&x, b * BLOCK), at(&dy, b * BLOCK), <void*> at(&dx, b * BLOCK),
            <void*> at(&y, b * BLOCK), min(BLOCK, size - b * BLOCK), activation)


def gated_forward(
    pre_NG,  # IN, stored
    act_NF,  # OUT, stored
    int activation,
    int n_threads,
):
    cdef array_t pre = reads(pre_NG, 2), act = writes(act_NF, 2)
    cdef int F = extent(act.shape[1])
    cdef long N = act.shape[0], n
    alike(&pre, &act)
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static',
                    use_threads_if=N * F > FEW):
        table().of[pre.type].gated_forward(at(&pre, 2 * n * F), <void*> at(&act, n * F), F,
                                           activation)


def gated_backward(
    pre_NG,  # IN, stored
    dact_NF,  # IN, stored
    dpre_NG,  # OUT, stored
    act_NF,  # OUT, stored, or None; may be dact_NF
    int activation,
    int n_threads,
):
    cdef array_t pre = reads(pre_NG, 2), dact = reads(dact_NF, 2)
    cdef array_t dpre = writes(dpre_NG, 2)
    cdef array_t act = nothing() if act_NF is None else writes(act_NF, 2)
    cdef int F = extent(dact.shape[1])
    cdef long N = dact.shape[0], n
    alike(&pre, &dact)
    alike(&pre, &dpre)
    alike(&pre, &act)
    for n in prange(N, nogil=True, num_threads=n_threads, schedule='static'):
        table().of[pre.type].gated_backward(
            at(&pre, 2 * n * F), at(&dact, n * F), <void*> at(&dpre, 2 * n * F),
            <void*> at(&act, n * F), F, activation)


def soft_cap_forward(
    float[:, ::1] z_NV,  # IN and OUT
    float[:, ::1] slope_NV or None,  # OUT
    float cap,
    int n_threads,
):
    cdef long size = z_NV.shape[0] * z_NV.shape[1], b
    cdef float* z = &z_NV[0, 0]
    cdef float* slope = NULL if slope_NV is None else &slope_NV[0, 0]
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
        table().soft_cap(z + b * BLOCK, NULL if slope == NULL else slope + b * BLOCK, cap,
                         min(BLOCK, size - b * BLOCK))


def soft_cap_backward(
    float[:, ::1] dz_NV,  # IN and OUT
    const float[:, ::1] slope_NV,  # IN
    int n_threads,
):
    cdef long size = dz_NV.shape[0] * dz_NV.shape[1], b
    cdef float* dz = &dz_NV[0, 0]
    cdef const float* slope = &slope_NV[0, 0]
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
        table().multiply(dz + b * BLOCK, slope + b * BLOCK, min(BLOCK, size - b * BLOCK))
