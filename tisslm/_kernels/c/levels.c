/* Which levels this processor and this build have, and the caches that they work for. */
#include "levels.h"

#ifdef TISS_X86
#include <cpuid.h>

/* By the instruction, since not every compiler knows the feature by name. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#define HAS_BF16 (1ul << 14) /* HWCAP2_BF16 of <asm/hwcap.h>, which older kernels' headers lack */
#endif

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
        return level_baseline;
#ifdef TISS_X86
    __builtin_cpu_init();
    if (level == TISS_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        has_f16c())
        return level_avx2;
    if (level == TISS_AVX512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return level_avx512;
#if defined(__clang__) || __GNUC__ >= 10 /* knows the products of bfloat16 */
    if (level == TISS_AVX512_BF16 && tiss_level(TISS_AVX512) &&
        __builtin_cpu_supports("avx512bf16"))
        return level_avx512_bf16;
#endif
#endif
#ifdef __aarch64__
    if (level == TISS_NEON)
        return level_neon;
#ifdef HAS_BF16
    if (level == TISS_NEON_BF16 && getauxval(AT_HWCAP2) & HAS_BF16)
        return level_neon_bf16;
#endif
#endif
    return NULL;
}
