/* AVX-512 that multiplies pairs of bfloat16: Cooper Lake, Sapphire Rapids, Zen 4, and later ones.
 * flags: -mavx -mavx2 -mfma -mbmi -mbmi2 -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mprefer-vector-width=512 */
#include "../levels.h"

#if defined(__AVX512BF16__)
#define SUFFIX avx512_bf16
#define LEVEL TISS_AVX512_BF16
#define VL 16
#define MR 12
#define REGISTERS 32
#include "../level.inc"
#else
TISS_LEVEL(avx512_bf16) = NULL;
#endif
