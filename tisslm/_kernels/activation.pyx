"""Activations: GELU, exact (y = x Phi(x)) or by the tanh formula, SiLU and squared ReLU.

Backward: dx = dy y'(x), and y again where it was not kept.
All arrays of a call are stored alike: float32, bfloat16 or float16.
Split: elements, in blocks of 4096.
"""

from cython.parallel cimport prange

from tisslm._kernels.arrays cimport array_t, at, reads, writes
from tisslm._kernels.isa cimport table

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
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
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
    cdef array_t dx = writes(dx_NF, 2), y = writes(y_NF, 2)
    cdef long size = x.shape[0] * x.shape[1], b
    for b in prange((size + BLOCK - 1) // BLOCK, nogil=True, num_threads=n_threads,
                    schedule='static'):
        table().of[x.type].activation_backward(
            at(&x, b * BLOCK), at(&dy, b * BLOCK), <void*> at(&dx, b * BLOCK),
            <void*> at(&y, b * BLOCK), min(BLOCK, size - b * BLOCK), activation)
