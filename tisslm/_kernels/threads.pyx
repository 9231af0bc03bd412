"""The only door to omp.h, and the scratch memory that each thread owns.

Every parallel loop of the package passes ``num_threads``, so no global OpenMP setting matters.
Scratch is one block for all threads, made by ``tisslm.ops``; kernels take their slice by thread
number and never allocate.
"""

cdef extern from "c/omp_or_serial.h":
    int omp_get_thread_num() noexcept nogil
    int omp_get_num_procs() noexcept nogil
    int TISS_OPENMP

cdef float[::1] _block = None
cdef float* _start = NULL
cdef Py_ssize_t _per_thread = 0


cdef int thread_number() noexcept nogil:
    return omp_get_thread_num()


cdef float* scratch() noexcept nogil:
    """The calling thread's scratch; kernels need at most what ``bind_scratch`` was given."""
    return _start + omp_get_thread_num() * _per_thread


cdef float* scratch_of_all() noexcept nogil:
    """That of the first thread; the others' follow, ``scratch_floats`` each."""
    return _start


cdef Py_ssize_t scratch_floats() noexcept nogil:
    """The size of each thread's scratch."""
    return _per_thread


def bind_scratch(float[::1] block, Py_ssize_t floats_per_thread):
    """Keep ``block`` as the threads' scratch, ``floats_per_thread`` each."""
    global _block, _start, _per_thread
    _block = block
    _start = &block[0]
    _per_thread = floats_per_thread


def openmp_version():
    """Return the date of the OpenMP specification built against, 0 without OpenMP."""
    return TISS_OPENMP


def processors():
    """Return the number of processors that OpenMP sees."""
    return omp_get_num_procs()
