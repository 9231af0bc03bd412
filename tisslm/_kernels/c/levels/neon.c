/* NEON, which every AArch64 processor has.
 * flags: -march=armv8-a -fno-schedule-insns */
#include "../levels.h"

#if defined(__aarch64__)
#define SUFFIX neon
#define LEVEL TISS_NEON
#define VL 4
#define MR 12
#define REGISTERS 32
#include "../level.inc"
#else
TISS_LEVEL(neon) = NULL;
#endif
