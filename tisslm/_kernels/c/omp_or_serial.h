/* omp.h, or its meaning with one thread when built with TISSLM_NO_OPENMP=1. */
#ifndef OMP_OR_SERIAL_H
#define OMP_OR_SERIAL_H
#ifdef _OPENMP
#include <omp.h>
#define TISS_OPENMP _OPENMP
#else
#define TISS_OPENMP 0
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_procs(void) { return 1; }
#endif
#endif
