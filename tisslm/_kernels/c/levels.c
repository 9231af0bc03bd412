/* The same sources, compiled once per instruction-set level.
 *
 * Target pragmas instead of compiler flags: one file, no -march, any build tool; a table of
 * pointers instead of ifunc: a level can be forced, and tests run every level of the host.
 */
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

#define SUFFIX baseline
#define LEVEL TISS_BASELINE
#define VL 4
#define MR 4
#include "level.inc"
#undef SUFFIX
#undef LEVEL
#undef VL
#undef MR

#ifdef TISS_X86
#pragma GCC push_options
#pragma GCC target("avx,avx2,fma,bmi,bmi2,f16c")
#define SUFFIX avx2
#define LEVEL TISS_AVX2
#define VL 8
#define MR 6
#include "level.inc"
#undef SUFFIX
#undef LEVEL
#undef VL
#undef MR
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx,avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define SUFFIX avx512
#define LEVEL TISS_AVX512
#define VL 16
#define MR 12
#include "level.inc"
#undef SUFFIX
#undef LEVEL
#undef VL
#undef MR
#pragma GCC pop_options

#ifdef TISS_X86_BF16
#pragma GCC push_options
#pragma GCC target("avx,avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")
#define SUFFIX avx512_bf16
#define LEVEL TISS_AVX512_BF16
#define VL 16
#define MR 12
#include "level.inc"
#undef SUFFIX
#undef LEVEL
#undef VL
#undef MR
#pragma GCC pop_options
#endif
#endif

const tiss_table *tiss_level(int level)
{
    if (level == TISS_BASELINE)
        return &table_baseline;
#ifdef TISS_X86
    __builtin_cpu_init();
    if (level == TISS_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c"))
        return &table_avx2;
    if (level == TISS_AVX512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &table_avx512;
#ifdef TISS_X86_BF16
    if (level == TISS_AVX512_BF16 && tiss_level(TISS_AVX512) &&
        __builtin_cpu_supports("avx512bf16"))
        return &table_avx512_bf16;
#endif
#endif
    return NULL;
}
