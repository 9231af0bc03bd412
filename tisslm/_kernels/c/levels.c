/* Which levels this processor and this build have. */
#include "levels.h"

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
