cdef enum:
    ROWS = 64  # of a block, whose sum is added to the others' in order
    COLUMNS = 256  # columns of the partial sums that one thread adds at once

cdef void add_partials(const float* partial, long blocks, long C, long first, long width,
                       float* total, bint accumulate) noexcept nogil
