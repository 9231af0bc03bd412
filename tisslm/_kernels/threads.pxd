cdef int thread_number() noexcept nogil
cdef float* scratch() noexcept nogil
cdef Py_ssize_t scratch_floats() noexcept nogil
