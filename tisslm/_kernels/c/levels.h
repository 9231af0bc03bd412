/* What the sources of all levels begin with; a level is one file of levels/, and levels.c lists them.
 *
 * A file a level, so that they compile side by side and only what has changed is compiled again. Its
 * first lines name the flags that it alone is compiled with (tisslm/ops/building.py): what is built
 * runs on every processor of the architecture. Where the compiler does not know these, as on another
 * architecture, the file makes no level. A table of pointers instead of ifunc: a level can be forced,
 * and tests run every level of the host.
 */
#ifndef TISS_LEVELS_H
#define TISS_LEVELS_H
#include "tiss.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

#ifdef __x86_64__
#define TISS_X86 1
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define NAME(x) CAT(x, SUFFIX)
/* Again, for names whose expansion has CAT in it: a macro is not expanded inside itself. */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

/* For the linker alone: no name of the module's. NULL where this build lacks the level. */
#define TISS_LEVEL(name) TISS_LEVEL_(name)
#define TISS_LEVEL_(name) const tiss_table *const level_##name
#pragma GCC visibility push(hidden)
extern TISS_LEVEL(baseline);
extern TISS_LEVEL(avx2);
extern TISS_LEVEL(avx512);
extern TISS_LEVEL(avx512_bf16);
extern TISS_LEVEL(neon);
extern TISS_LEVEL(neon_bf16);
extern tiss_caches tiss_blocked_for;
#pragma GCC visibility pop
#endif
