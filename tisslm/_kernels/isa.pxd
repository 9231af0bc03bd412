# What c/tiss.h declares: setup.py writes this view of it, since Cython reads no C.
include "tiss.pxi"

cdef const tiss_table* table() noexcept nogil
