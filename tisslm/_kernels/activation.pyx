"""GELU, exact or by the tanh formula: y = x Phi(x).

Backward: dx = dy (Phi(x) + x phi(x)), and y again where it was not kept.
Split: elements, in blocks of 4096.
"""

from cython.parallel cimport prange

from tisslm._kernels.isa cimport table

cdef enum:
    BLOCK = 4096


def activation_forward(
    const float[:, ::1] x_NF,  # IN
    float[:, ::1] y_NF,  # OUT
    int activation,
    int n_threads,
):
    cdef long size = x_NF.shape[0] * x_NF.shape[1], b
    cdef const float* x = &x_NF[0, 0]
    cdef float* y = &y_NF[0, 0]
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
        table().activation_forward(x + b * BLOCK, y + b * BLOCK, min(BLOCK, size - b * BLOCK),
                                   activation)


def activation_backward(
    const float[:, ::1] x_NF,  # IN
    const float[:, ::1] dy_NF,  # IN
    float[:, ::1] dx_NF,  # OUT; may be dy_NF
    float[:, ::1] y_NF,  # OUT or None
    int activation,
    int n_threads,
):
    cdef long size = x_NF.shape[0] * x_NF.shape[1], b
    cdef const float* x = &x_NF[0, 0]
    cdef const float* dy = &dy_NF[0, 0]
    cdef float* dx = &dx_NF[0, 0]
    cdef float* y = NULL if y_NF is None else &y_NF[0, 0]
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
        table().activation_backward(x + b * BLOCK, dy + b * BLOCK, dx + b * BLOCK,
                                    NULL if y == NULL else y + b * BLOCK,
                                    min(BLOCK, size - b * BLOCK), activation)
