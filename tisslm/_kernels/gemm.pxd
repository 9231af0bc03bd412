from tisslm._kernels.isa cimport tiss_gemm

cdef long multiply(const tiss_gemm* g, int n_threads) noexcept nogil
