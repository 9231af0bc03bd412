/* When each thread begins and ends its share of a parallel region, for the profiler.
 *
 * Linked into every extension module with the linker's --wrap (setup.py), so that a call of
 * GOMP_parallel, by which GCC enters a region, comes here; no kernel knows of it. While nobody
 * looks, a region costs one test of a pointer more. The pointer is each module's own: extension
 * modules do not see each other's symbols, so that ops sets it in each. clang enters a region by
 * another call, __kmpc_fork_call, and what it compiles is not watched.
 */
#include "omp_or_serial.h"

#if defined(_OPENMP) && !defined(__clang__)
#include <stdint.h>
#include <string.h>
#include <time.h>

#define HIDDEN __attribute__((visibility("hidden")))

typedef struct {
    int64_t room;      /* how many regions the table takes */
    int64_t n_threads; /* pairs of stamps of a region */
    int64_t count;     /* regions since the reader last set this to 0; at most room */
    int64_t stamps[];  /* room x n_threads x (begin, end), in ns; 0, 0: the thread was not there */
} tiss_regions;

typedef void (*share_t)(void *);

typedef struct {
    share_t share;
    void *data;
} tiss_work;

void __real_GOMP_parallel(share_t share, void *data, unsigned n_threads, unsigned flags);
void __real_GOMP_barrier(void);
HIDDEN void __wrap_GOMP_parallel(share_t share, void *data, unsigned n_threads, unsigned flags);
HIDDEN void __wrap_GOMP_barrier(void);
void tiss_watch_regions(void *table);

static tiss_regions *table; /* NULL while nobody looks */
static int64_t *row;        /* stamps of the region that runs, NULL if it is not watched */
static int64_t row_threads;

/* Nanoseconds of the clock that Python's perf_counter_ns reads. */
static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static void stamp(int which)
{
    int64_t thread = omp_get_thread_num();
    if (thread < row_threads)
        row[2 * thread + which] = now();
}

static void stamped(void *p)
{
    const tiss_work *work = p;
    stamp(0);
    work->share(work->data);
    stamp(1);
}

/* One caller at a time: ops holds a lock around every kernel. */
void __wrap_GOMP_parallel(share_t share, void *data, unsigned n_threads, unsigned flags)
{
    if (table == NULL || table->count >= table->room) {
        __real_GOMP_parallel(share, data, n_threads, flags);
        return;
    }
    tiss_work work = {share, data};
    row_threads = table->n_threads;
    row = table->stamps + 2 * row_threads * table->count++;
    memset(row, 0, 2 * row_threads * sizeof(int64_t));
    __real_GOMP_parallel(stamped, &work, n_threads, flags);
    row = NULL;
}

/* A region of Cython's begins with a barrier and has no other: what a thread waits there for the
 * others to wake up is no work of its own. */
void __wrap_GOMP_barrier(void)
{
    __real_GOMP_barrier();
    if (row != NULL)
        stamp(0);
}

/* Write stamps to this table from now on, or none for NULL. */
void tiss_watch_regions(void *given)
{
    table = given;
}
#endif
