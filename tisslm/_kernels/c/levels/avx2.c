/* AVX2 with fused multiply-add: Haswell and Zen, and later ones. */
#include "../levels.h"

#ifdef TISS_X86
#pragma GCC target("avx,avx2,fma,bmi,bmi2,f16c")
#define SUFFIX avx2
#define LEVEL TISS_AVX2
#define VL 8
#define MR 6
#include "../level.inc"
#endif
