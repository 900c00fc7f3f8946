/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11, section 3.3).
 *
 * A draw is a pure function of its key, so pruning one branch never changes another's samples and
 * a run can be repeated in any order. Keys are (seed, problem, branch path, position).
 */
#pragma once

#include <stdint.h>

typedef struct cop_rng_key {
    uint64_t seed;
    uint64_t stream; /* problem and branch path, folded with cop_rng_fold */
    uint64_t position;
} cop_rng_key;

/* Mixes one more word (a problem index, a child number) into a stream; order matters. */
uint64_t cop_rng_fold(uint64_t stream, uint64_t word);

/* Four independent 32-bit words for (key, draw). */
void cop_rng_draw4(cop_rng_key key, uint32_t draw, uint32_t out[4]);

/* Uniform in [0, 1) with 53 random bits; uniform in 0 .. bound-1 (bound > 0). */
double cop_rng_uniform(cop_rng_key key, uint32_t draw);
uint32_t cop_rng_below(cop_rng_key key, uint32_t draw, uint32_t bound);
