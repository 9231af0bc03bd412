"""The only cimport of SciPy's BLAS: a row-major product of one tile, on the calling thread.

The portable path of every matrix product (``TISSLM_ISA=baseline``) and the oracle of our own
micro-kernels. ``tisslm.ops.threads`` keeps BLAS at one thread.
"""

from scipy.linalg.cython_blas cimport sgemm


cdef void gemm(int m, int n, int k, const float* a, long a_row, long a_col, const float* b,
               long b_row, long b_col, float beta, float* c, long c_row) noexcept nogil:
    """C = A B + beta C. BLAS counts by columns, so it is asked for C^T = B^T A^T."""
    cdef char normal = b'N'
    cdef char transposed = b'T'
    cdef int lda = <int> (a_row if a_col == 1 else a_col)
    cdef int ldb = <int> (b_row if b_col == 1 else b_col)
    cdef int ldc = <int> c_row
    cdef float alpha = 1.0
    # a leading dimension may be smaller than the extent only where one extent is 1
    lda = max(lda, k if a_col == 1 else m)
    ldb = max(ldb, n if b_col == 1 else k)
    sgemm(&normal if b_col == 1 else &transposed, &normal if a_col == 1 else &transposed,
          &n, &m, &k, &alpha, <float*> b, &ldb, <float*> a, &lda, &beta, c, &ldc)
