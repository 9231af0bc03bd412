/* Which levels this processor and this build have, and the caches that they work for. */
#include "levels.h"

/* Until somebody says otherwise, the least that processors with AVX2 have. */
tiss_caches tiss_blocked_for = {32768, 262144};

void tiss_block_for(int64_t l1, int64_t l2)
{
    tiss_blocked_for.l1 = l1;
    tiss_blocked_for.l2 = l2;
}

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
