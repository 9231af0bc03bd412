/* What every processor has: on x86-64, SSE2. */
#include "../levels.h"

#define SUFFIX baseline
#define LEVEL TISS_BASELINE
#define VL 4
#define MR 4
#define REGISTERS 16
#include "../level.inc"
