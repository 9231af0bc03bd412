"""Adafactor's three passes over a matrix; formulas and arguments are those of the twins.

Split: rows, in as many runs as the array of partial sums has rows, each with one owner; the sums of
columns are added in the order of the runs. How many there are does not depend on the threads.
"""

from cython.parallel cimport prange
from libc.math cimport sqrtf

# Brings the version of the interface along, which is looked at when the kernel is loaded.
from tisslm.ops.kernels cimport TISS_INTERFACE  # no-cython-lint

cdef enum:
    BLOCK = 16384


cdef inline int threads_for(long size, int n_threads) noexcept nogil:
    """Waking threads takes longer than a block does: what is no larger stays on this one."""
    return n_threads if size > BLOCK else 1


cdef inline double total_of(const double* s) noexcept nogil:
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))


cdef void add_squares(const float* g, float* row, double* columns, long rows, long n, float rest,
                      double eps1, float grad_scale) noexcept nogil:
    cdef long r, c, j, whole = n - n % 8
    cdef float d
    cdef double lane[8]
    for c in range(n):
        columns[c] = 0.0
    for r in range(rows):
        for j in range(8):
            lane[j] = 0.0
        for c in range(0, whole, 8):
            for j in range(8):
                d = g[r * n + c + j] * grad_scale
                lane[j] += <double> d * d + eps1
                columns[c + j] += <double> d * d + eps1
        for c in range(whole, n):
            d = g[r * n + c] * grad_scale
            lane[c - whole] += <double> d * d + eps1
            columns[c] += <double> d * d + eps1
        row[r] = row[r] + rest * (<float> (total_of(lane) / n) - row[r])


cdef void add_sizes(const float* p, const float* g, const float* row, const float* column,
                    long rows, long n, float scale, float grad_scale, double* sums) noexcept nogil:
    cdef long r, c, j, whole = n - n % 8
    cdef float step[8]
    cdef float size
    cdef double lengths[8]
    cdef double steps[8]
    for j in range(8):
        lengths[j] = 0.0
        steps[j] = 0.0
    for r in range(rows):
        size = row[r] * scale
        for c in range(0, whole, 8):
            for j in range(8):
                step[j] = g[r * n + c + j] * grad_scale / sqrtf(size * column[c + j])
            for j in range(8):
                steps[j] += <double> step[j] * step[j]
                lengths[j] += <double> p[r * n + c + j] * p[r * n + c + j]
        for c in range(whole, n):
            j = c - whole
            step[j] = g[r * n + c] * grad_scale / sqrtf(size * column[c])
            steps[j] += <double> step[j] * step[j]
            lengths[j] += <double> p[r * n + c] * p[r * n + c]
    sums[0] = total_of(lengths)
    sums[1] = total_of(steps)


cdef void apply(float* p, const float* g, const float* row, const float* column, long rows, long n,
                float scale, float rate, float pull, float grad_scale,
                double* moved) noexcept nogil:
    cdef long r, c, i
    cdef float size, before
    cdef double move = 0.0, total = 0.0, step
    for r in range(rows):
        size = row[r] * scale
        if moved == NULL:
            for c in range(n):
                i = r * n + c
                p[i] = p[i] - (pull * p[i] + rate * (g[i] * grad_scale / sqrtf(size * column[c])))
        else:
            for c in range(n):
                i = r * n + c
                before = p[i]
                p[i] = before - (pull * before
                                 + rate * (g[i] * grad_scale / sqrtf(size * column[c])))
                step = <double> p[i] - before
                move = move + step * step
                total = total + <double> before * before
    if moved != NULL:
        moved[0] = move
        moved[1] = total


def adafactor_moments(
    const float[:, ::1] g_RC,  # IN
    float[::1] row_R,  # IN and OUT
    float[::1] column_C,  # IN and OUT
    double[:, ::1] part_KC,  # scratch
    double rest,
    double eps1,
    float grad_scale,
    int n_threads,
):
    cdef long rows = g_RC.shape[0], n = g_RC.shape[1], runs = part_KC.shape[0], k, c, j, start
    cdef double total
    cdef int used = threads_for(rows * n, n_threads)
    for k in prange(runs, nogil=True, num_threads=used, schedule='static'):
        start = rows * k // runs
        add_squares(&g_RC[0, 0] + start * n, &row_R[0] + start, &part_KC[k, 0],
                    rows * (k + 1) // runs - start, n, <float> rest, eps1, grad_scale)
    for c in prange(n, nogil=True, num_threads=used, schedule='static'):
        total = 0.0
        for j in range(runs):
            total = total + part_KC[j, c]
        column_C[c] = column_C[c] + <float> rest * (<float> (total / rows) - column_C[c])


def adafactor_sizes(
    const float[:, ::1] p_RC,  # IN
    const float[:, ::1] g_RC,  # IN
    const float[::1] row_R,  # IN
    const float[::1] column_C,  # IN
    double[:, ::1] sums_K2,  # OUT
    double scale,
    float grad_scale,
    int n_threads,
):
    cdef long rows = g_RC.shape[0], n = g_RC.shape[1], runs = sums_K2.shape[0], k, start
    cdef int used = threads_for(rows * n, n_threads)
    for k in prange(runs, nogil=True, num_threads=used, schedule='static'):
        start = rows * k // runs
        add_sizes(&p_RC[0, 0] + start * n, &g_RC[0, 0] + start * n, &row_R[0] + start,
                  &column_C[0], rows * (k + 1) // runs - start, n, <float> scale, grad_scale,
                  &sums_K2[k, 0])


def adafactor_apply(
    float[:, ::1] p_RC,  # IN and OUT
    const float[:, ::1] g_RC,  # IN
    const float[::1] row_R,  # IN
    const float[::1] column_C,  # IN
    double[:, ::1] moved_K2 or None,  # OUT
    long runs,
    double scale,
    double rate,
    double pull,
    float grad_scale,
    int n_threads,
):
    cdef long rows = g_RC.shape[0], n = g_RC.shape[1], k, start
    cdef double* moved = NULL if moved_K2 is None else &moved_K2[0, 0]
    cdef int used = threads_for(rows * n, n_threads)
    for k in prange(runs, nogil=True, num_threads=used, schedule='static'):
        start = rows * k // runs
        apply(&p_RC[0, 0] + start * n, &g_RC[0, 0] + start * n, &row_R[0] + start, &column_C[0],
              rows * (k + 1) // runs - start, n, <float> scale, <float> rate, <float> pull,
              grad_scale, NULL if moved == NULL else moved + 2 * k)
