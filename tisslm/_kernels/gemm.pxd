from tisslm._kernels.arrays cimport array_t
from tisslm._kernels.isa cimport tiss_gemm

cdef enum:
    SUMS = 64  # columns that one thread sums at once

cdef long multiply(const tiss_gemm* g, int n_threads) noexcept nogil
cdef void sum_columns(const array_t* x, long first, float* total, bint accumulate) noexcept nogil
cdef long multiply_and_sum(const tiss_gemm* g, const array_t* x, float* total, bint accumulate,
                           int n_threads) noexcept nogil
cdef long multiply_both(const tiss_gemm* g, const tiss_gemm* h, const array_t* x, float* total,
                        bint accumulate, int n_threads) noexcept nogil
