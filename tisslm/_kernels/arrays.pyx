"""Arrays whose type is known when a kernel is called: float32, bfloat16 and float16.

NumPy has no bfloat16, so an array of uint16 holds its bits. A pointer stays good for the call,
since the caller holds the array.

Kernels of small passes take all their arrays so, floats and integers, too: a typed memoryview is an
object, which takes longer to make than a decoded token's norm.

None is refused, as it is of a typed memoryview (``DIRECTIVES`` of ``tisslm.ops.building``): a
kernel knows what may be left out, and looks before it describes the array.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)

from tisslm._kernels.isa cimport TISS_BF16, TISS_F16, TISS_F32, TISS_MOST


STORED = "float32, float16, or uint16 with the bits of bfloat16"


cdef object other_type(object x):
    return getattr(x, "dtype", type(x).__name__)


cdef array_t nothing() noexcept:
    """What stands for an array that is left out."""
    cdef array_t found
    found.data, found.floats = NULL, NULL
    found.type = TISS_F32
    found.shape[:] = [0, 0, 0, 0]
    return found


cdef int extent(Py_ssize_t n) except -1:
    """One extent of an array as kernels count it, or OverflowError, which ``ops`` explains."""
    if n > TISS_MOST:
        raise OverflowError(f"expected at most {TISS_MOST} rows or columns, got {n}")
    return <int> n


cdef array_t describe(object x, int ndim, int flags) except *:
    cdef array_t found = nothing()
    cdef Py_buffer view
    cdef int i
    PyObject_GetBuffer(x, &view, flags | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    try:
        if view.ndim != ndim:
            raise ValueError(f"expected {ndim} dimensions, got {view.ndim}")
        found.data = view.buf
        if view.itemsize > 4 or view.format[1] != 0:
            raise ValueError(f"expected {STORED}, got {other_type(x)}")
        if view.format[0] == b"f":
            found.type, found.floats = TISS_F32, <float*> view.buf
        elif view.format[0] == b"H":
            found.type = TISS_BF16
        elif view.format[0] == b"e":
            found.type = TISS_F16
        else:
            raise ValueError(f"expected {STORED}, got {other_type(x)}")
        for i in range(ndim):
            found.shape[i] = extent(view.shape[i])
    finally:
        PyBuffer_Release(&view)
    return found


cdef array_t reads(object x, int ndim) except *:
    """Describe an array that a kernel reads."""
    return describe(x, ndim, 0)


cdef array_t writes(object x, int ndim) except *:
    """Describe an array that a kernel writes."""
    return describe(x, ndim, PyBUF_WRITABLE)


cdef array_t only_floats(array_t x) except *:
    if x.data != NULL and x.type != TISS_F32:
        raise ValueError("expected float32, got a type of two bytes")
    return x


cdef array_t floats(object x, int ndim) except *:
    """Describe an array of float32 that a kernel reads."""
    return only_floats(reads(x, ndim))


cdef array_t floats_out(object x, int ndim) except *:
    """Describe an array of float32 that a kernel writes."""
    return only_floats(writes(x, ndim))


cdef const int32_t* integers(object x, int ndim) except? NULL:
    """Return where the numbers of an array of int32 are that a kernel reads."""
    cdef Py_buffer view
    cdef const int32_t* found
    PyObject_GetBuffer(x, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    found = <const int32_t*> view.buf
    try:
        if view.ndim != ndim:
            raise ValueError(f"expected {ndim} dimensions, got {view.ndim}")
        if view.itemsize != 4 or view.format[0] != b"i":
            raise ValueError(f"expected int32, got {other_type(x)}")
    finally:
        PyBuffer_Release(&view)
    return found


cdef int alike(const array_t* x, const array_t* y) except -1:
    """Refuse two arrays of different types where a kernel takes both for that of the first.

    It would read or write twice as many bytes as the other has.
    """
    if y.data != NULL and x.type != y.type:
        raise ValueError("expected arrays of one type, got two types of stored floats")
    return 0


cdef const void* at(const array_t* x, Py_ssize_t element) noexcept nogil:
    """The address of an element; NULL where there is no array."""
    if x.data == NULL:
        return NULL
    return <const char*> x.data + element * (4 if x.type == TISS_F32 else 2)
