cdef struct array_t:
    void* data
    int type  # TISS_F32, TISS_BF16 or TISS_F16
    Py_ssize_t shape[4]

cdef int extent(Py_ssize_t n) except -1
cdef array_t reads(object x, int ndim) except *
cdef array_t writes(object x, int ndim) except *
cdef array_t nothing() noexcept
cdef const void* at(const array_t* x, Py_ssize_t element) noexcept nogil
