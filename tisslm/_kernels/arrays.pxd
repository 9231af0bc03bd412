from libc.stdint cimport int32_t

cdef struct array_t:
    void* data
    float* floats  # the same, where the type is TISS_F32, else NULL
    int type  # TISS_F32, TISS_BF16 or TISS_F16
    Py_ssize_t shape[4]

cdef int extent(Py_ssize_t n) except -1
cdef array_t reads(object x, int ndim) except *
cdef array_t writes(object x, int ndim) except *
cdef array_t floats(object x, int ndim) except *
cdef array_t floats_out(object x, int ndim) except *
cdef const int32_t* integers(object x, int ndim) except? NULL
cdef int alike(const array_t* x, const array_t* y) except -1
cdef array_t nothing() noexcept
cdef const void* at(const array_t* x, Py_ssize_t element) noexcept nogil
