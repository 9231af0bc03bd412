/* What a plugin's kernels are compiled with; tisslm/ops/kernels.pxd includes it.
 *
 * The number is raised by any change that a kernel compiled before would not survive: what a return
 * code means, what the functions of kernels.pxd take and return, what regions.c shares. It is a
 * symbol of the module, so that it can be read before the module runs any code of its own.
 */
#ifndef TISS_PLUGIN_H
#define TISS_PLUGIN_H
#define TISS_INTERFACE 1
#include "regions.c"

int tisslm_kernel_interface = TISS_INTERFACE;
#endif
