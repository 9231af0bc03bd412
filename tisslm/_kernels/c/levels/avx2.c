/* AVX2 with fused multiply-add: Haswell and Zen, and later ones.
 * flags: -mavx -mavx2 -mfma -mbmi -mbmi2 -mf16c */
#include "../levels.h"

#if defined(__AVX2__)
#define SUFFIX avx2
#define LEVEL TISS_AVX2
#define VL 8
#define MR 6
#define REGISTERS 16
#include "../level.inc"
#else
TISS_LEVEL(avx2) = NULL;
#endif
