/* What this machine can do at most, measured: the two ceilings that a share is a share of.
 *
 * Read bandwidth: all threads read a buffer far larger than the last-level cache, each its own
 * part, which it also wrote first (so that its memory lies near). FMA peak: all threads multiply
 * and add in registers, with the widest vectors that the cpu backend would use. Both are the best
 * of several passes, since anything else that runs can only make a pass slower. Takes less than 3 s
 * and up to 512 MB; on a busy machine the figures are what was left of it.
 */
#pragma once

#include <stdint.h>

#include "base/status.h"

/* threads 0: all that the process may use. GB/s and GFLOP/s are decimal; an FMA counts as two. */
cop_status cop_ceilings_measure(uint32_t threads, double *read_gbps, double *fma_gflops);
