/* Counts blocks of 4 KiB or more that anything in the process asks for, while counting is on.

   Preloaded into a child process; glibc's own names of its functions are called through. */
#define _GNU_SOURCE
#include <stddef.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static volatile int counting;
static volatile long blocks, largest;

static void count(size_t size)
{
    if (counting && size >= 4096) {
        __sync_fetch_and_add(&blocks, 1);
        if ((long)size > largest)
            largest = (long)size;
    }
}

void start_counting(void) { blocks = largest = 0; counting = 1; }
void stop_counting(void) { counting = 0; }
long counted_blocks(void) { return blocks; }
long largest_block(void) { return largest; }

void *malloc(size_t size) { count(size); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { count(n * size); return __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { count(size); return __libc_realloc(old, size); }
void *memalign(size_t to, size_t size) { count(size); return __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { return memalign(to, size); }
int posix_memalign(void **out, size_t to, size_t size)
{
    *out = memalign(to, size);
    return *out ? 0 : 12;
}
