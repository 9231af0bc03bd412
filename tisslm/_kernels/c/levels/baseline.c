/* What every processor has: on x86-64, SSE2. A product and a sum are two instructions everywhere: of
 * copies of one loop, the compiler would fuse some and not others, and rows beside each other would
 * get other bits than alone.
 * flags: -ffp-contract=off */
#include "../levels.h"

#define SUFFIX baseline
#define LEVEL TISS_BASELINE
#define VL 4
#define MR 4
#define REGISTERS 16
#include "../level.inc"
