from tisslm._kernels.isa cimport tiss_gemm

cdef enum place_t:  # of a product in its loop
    ALONE, FIRST, LAST

cdef inline long ceil_div(long a, long b) noexcept nogil:
    return (a + b - 1) // b

cdef void cut(const tiss_gemm* g, int n_threads, place_t place, int* tr, int* tc) noexcept nogil
