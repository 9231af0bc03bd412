/* What the sources of all levels begin with; a level is one file of levels/, and levels.c lists them.
 *
 * A file a level, so that they compile side by side and only what has changed is compiled again.
 * Target pragmas instead of compiler flags: no -march, any build tool; a table of pointers instead
 * of ifunc: a level can be forced, and tests run every level of the host.
 */
#ifndef TISS_LEVELS_H
#define TISS_LEVELS_H
#include "tiss.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define TISS_X86 1
#include <immintrin.h>
#include "gelu_tables.inc"
#if __GNUC__ >= 10 /* knows the products of bfloat16 */
#define TISS_X86_BF16 1
#endif
#endif

#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define NAME(x) CAT(x, SUFFIX)
/* Again, for names whose expansion has CAT in it: a macro is not expanded inside itself. */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

/* For the linker alone: no name of the module's. */
#define HIDDEN __attribute__((visibility("hidden")))
extern const tiss_table HIDDEN table_baseline, table_avx2, table_avx512, table_avx512_bf16;
extern tiss_caches HIDDEN tiss_blocked_for;
#endif
