/* When each thread begins and ends its share of a parallel region, for the profiler; and, where a
 * loop is shared out while it runs, how long each of its parts takes, for the simulation of more
 * threads than there are cores: there, which thread gets a part says nothing.
 *
 * Linked into every extension module with the linker's --wrap (building.py), so that the calls by
 * which GCC enters a region and asks for a part come here; no kernel knows of it. While nobody
 * looks, a call costs one test of a pointer more. The pointer is each module's own: extension
 * modules do not see each other's symbols, so that ops sets it in each. clang enters a region by
 * another call, __kmpc_fork_call, and what it compiles is not watched.
 */
#include "omp_or_serial.h"

#if defined(_OPENMP) && !defined(__clang__)
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define HIDDEN __attribute__((visibility("hidden")))

typedef struct {
    int64_t room;       /* how many regions the table takes */
    int64_t n_threads;  /* pairs of stamps of a region, less one */
    int64_t count;      /* regions since the reader last set this to 0; at most room */
    int64_t clock;      /* which of the system's clocks is stamped */
    int64_t parts_room; /* how many parts it takes, 0 for none */
    int64_t parts;      /* parts that there were; may be more than there is room for */
    int64_t stamps[];   /* room x (n_threads + 1) x (begin, end), in ns; 0, 0: the thread was not
                         * there. The last pair is the region, seen by the thread that enters it.
                         * Then parts_room x (region, first turn of the loop, ns). */
} tiss_regions;

typedef void (*share_t)(void *);

typedef struct {
    share_t share;
    void *data;
} tiss_work;

void __real_GOMP_parallel(share_t share, void *data, unsigned n_threads, unsigned flags);
void __real_GOMP_barrier(void);
bool __real_GOMP_loop_nonmonotonic_dynamic_start(long, long, long, long, long *, long *);
bool __real_GOMP_loop_nonmonotonic_dynamic_next(long *, long *);
HIDDEN void __wrap_GOMP_parallel(share_t share, void *data, unsigned n_threads, unsigned flags);
HIDDEN void __wrap_GOMP_barrier(void);
HIDDEN bool __wrap_GOMP_loop_nonmonotonic_dynamic_start(long, long, long, long, long *, long *);
HIDDEN bool __wrap_GOMP_loop_nonmonotonic_dynamic_next(long *, long *);
void tiss_watch_regions(void *table);

static tiss_regions *table; /* NULL while nobody looks */
static int64_t *row;        /* stamps of the region that runs, NULL if it is not watched */
static int64_t row_threads;
static __thread int64_t part_begin; /* of the part that this thread has, 0 if it has none */
static __thread long part_first;

/* Nanoseconds: of CLOCK_MONOTONIC what Python's perf_counter_ns reads, of CLOCK_THREAD_CPUTIME_ID
 * what the calling thread has computed. */
static int64_t now(void)
{
    struct timespec t;
    clock_gettime((clockid_t) table->clock, &t);
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
    const int64_t pairs = row_threads + 1;
    row = table->stamps + 2 * pairs * table->count++;
    memset(row, 0, 2 * pairs * sizeof(int64_t));
    row[2 * row_threads] = now();
    __real_GOMP_parallel(stamped, &work, n_threads, flags);
    row[2 * row_threads + 1] = now();
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

/* The part that this thread has is done: note how long it took. */
static void end_part(void)
{
    if (part_begin == 0)
        return;
    const int64_t took = now() - part_begin;
    const int64_t place = __atomic_fetch_add(&table->parts, 1, __ATOMIC_RELAXED);
    part_begin = 0;
    if (place >= table->parts_room)
        return;
    int64_t *part = table->stamps + 2 * (table->n_threads + 1) * table->room + 3 * place;
    part[0] = table->count - 1;
    part[1] = part_first;
    part[2] = took;
}

static bool begin_part(bool there_is_one, long first)
{
    if (there_is_one) {
        part_first = first;
        part_begin = now();
    }
    return there_is_one;
}

static bool counts_parts(void)
{
    return row != NULL && table->parts_room > 0;
}

bool __wrap_GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long size,
                                                 long *first, long *last)
{
    const bool got =
        __real_GOMP_loop_nonmonotonic_dynamic_start(start, end, step, size, first, last);
    return counts_parts() ? begin_part(got, *first) : got;
}

bool __wrap_GOMP_loop_nonmonotonic_dynamic_next(long *first, long *last)
{
    if (!counts_parts())
        return __real_GOMP_loop_nonmonotonic_dynamic_next(first, last);
    end_part();
    const bool got = __real_GOMP_loop_nonmonotonic_dynamic_next(first, last);
    return begin_part(got, *first);
}

/* Write stamps to this table from now on, or none for NULL. */
void tiss_watch_regions(void *given)
{
    table = given;
}
#endif
