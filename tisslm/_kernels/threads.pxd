cdef int thread_number() noexcept nogil
cdef float* scratch() noexcept nogil
