# What a plugin's kernels may use: `from tisslm.ops.kernels cimport scratch, scratch_floats`.
#
# A kernel has the arguments of its NumPy twin and `int n_threads` at the end. It returns 0 (or
# None); a positive code that `tisslm.ops.register` was told how to explain; or -n where each thread
# needs n floats of scratch and `scratch_floats()` is less: it is then called again. It must not
# have changed anything before it returns one of these.

from tisslm._kernels.threads cimport scratch, scratch_floats, thread_number

cdef extern from "c/plugin.h":
    enum:
        TISS_INTERFACE
