from libc.stdint cimport uint32_t, uint64_t

from tisslm._kernels.isa cimport tiss_dropout

cdef tiss_dropout stream(double p, uint64_t seed, uint32_t update, uint32_t site) noexcept nogil
