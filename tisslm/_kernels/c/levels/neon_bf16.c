/* NEON that multiplies pairs of bfloat16: Neoverse V1 and N2, Apple's M2, and later ones.
 * flags: -march=armv8.2-a+bf16 -fno-schedule-insns */
#include "../levels.h"

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define SUFFIX neon_bf16
#define LEVEL TISS_NEON_BF16
#define VL 4
#define MR 12
#define REGISTERS 32
#include "../level.inc"
#else
TISS_LEVEL(neon_bf16) = NULL;
#endif
