cdef void gemm(int m, int n, int k, const float* a, long a_row, long a_col, const float* b,
               long b_row, long b_col, float beta, float* c, long c_row) noexcept nogil
