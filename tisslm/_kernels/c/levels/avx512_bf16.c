/* AVX-512 that multiplies pairs of bfloat16: Cooper Lake, Sapphire Rapids, Zen 4, and later ones. */
#include "../levels.h"

#ifdef TISS_X86_BF16
#pragma GCC target("avx,avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")
#define SUFFIX avx512_bf16
#define LEVEL TISS_AVX512_BF16
#define VL 16
#define MR 12
#include "../level.inc"
#endif
