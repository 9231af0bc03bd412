cdef enum:
    # Elements that one thread is done with before another has been woken: a loop over fewer, which
    # is what a decoded token brings, begins no parallel region.
    FEW = 16384

cdef int thread_number() noexcept nogil
cdef float* scratch() noexcept nogil
cdef float* scratch_of_all() noexcept nogil
cdef Py_ssize_t scratch_floats() noexcept nogil
