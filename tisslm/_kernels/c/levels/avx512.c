/* AVX-512 as Skylake's servers brought it.
 * flags: -mavx -mavx2 -mfma -mbmi -mbmi2 -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512 */
#include "../levels.h"

#if defined(__AVX512F__)
#define SUFFIX avx512
#define LEVEL TISS_AVX512
#define VL 16
#define MR 12
#define REGISTERS 32
#include "../level.inc"
#else
TISS_LEVEL(avx512) = NULL;
#endif
