/* AVX-512 as Skylake's servers brought it. */
#include "../levels.h"

#ifdef TISS_X86
#pragma GCC target("avx,avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define SUFFIX avx512
#define LEVEL TISS_AVX512
#define VL 16
#define MR 12
#include "../level.inc"
#endif
