/* What many graded answers to many problems are worth: pass@k, maj@k, intervals, the Pareto front.
 *
 * A problem has n samples that were graded, c of them right; what claims nothing is a sample and
 * not right, what is ungraded is no sample here. Definitions and sources: bench/METRICS.md. Pure
 * functions; any thread may call them. Random numbers are counter-based: same seed, same figures.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* What pass@k and maj@k are for a problem with fewer than k samples. */
typedef enum cop_few {
    COP_FEW_LEFT_OUT, /* unknown: NaN; the problem does not count, and results say how many */
    COP_FEW_NPR,      /* NPR's evaluation: 1 if every sample is right, else 0 */
} cop_few;

/* Unbiased (Chen et al. 2021, arXiv 2107.03374): 1 - C(n - c, k) / C(n, k), the share of the sets
 * of k samples that hold a right one. NaN: n = 0, k = 0 or c > n. */
double cop_pass_at_k(uint32_t n, uint32_t c, uint32_t k, cop_few few);

/* Who wins a vote among answers with equally many votes. */
typedef enum cop_tie {
    COP_TIE_FIRST, /* the one that was said first (Python's Counter: DeepConf, Parallel-Probe) */
    COP_TIE_SHARE, /* each with the same chance: the expected value */
    COP_TIE_NONE,  /* nobody: a tie claims nothing */
} cop_tie;
const char *cop_tie_name(cop_tie tie); /* "first", "share", "none" */

#define COP_CLASS_NONE UINT32_MAX

typedef struct cop_vote_sample {
    uint32_t answer; /* the class of its answer, 0 .. ; COP_CLASS_NONE: it has none, no vote */
    double weight;   /* > 0; 1 for a plain majority. What is not above 0 does not vote */
    bool right;      /* the first sample of a class speaks for it */
} cop_vote_sample;

/* The chance that the vote of these samples is right: 0 or 1, or between with COP_TIE_SHARE. No
 * vote: 0. `winner` (may be NULL) is the class that won, the first of those that tie;
 * COP_CLASS_NONE without one. `votes` is scratch of n numbers. */
double cop_majority(const cop_vote_sample *samples, uint32_t n, cop_tie tie, double *votes,
                    uint32_t *winner);

enum { COP_MAJORITY_EXACT_MAX = 20000, COP_MAJORITY_DRAWS = 2000, COP_MAJORITY_SAMPLES_MAX = 4096 };

typedef struct cop_majority_at_k {
    double share;     /* mean over sets of k of the n samples, each in its order; NaN: n < k */
    bool exact;       /* over all sets; else over so many drawn ones */
    uint32_t subsets; /* how many */
} cop_majority_at_k;

/* All C(n, k) sets while they are at most COP_MAJORITY_EXACT_MAX, else COP_MAJORITY_DRAWS of them
 * drawn by (seed, stream). ERR_NO_ROOM above COP_MAJORITY_SAMPLES_MAX samples. */
cop_status cop_majority_at_k_of(const cop_vote_sample *samples, uint32_t n, uint32_t k, cop_tie tie,
                                uint64_t seed, uint64_t stream, cop_majority_at_k *out);

/* A percentile bootstrap of the mean, clustered by problem: a replicate draws as many problems as
 * there are, with repetition, and each brings all its samples, since its value is its own mean.
 * Percentiles are linearly interpolated. NaN values are left out; *used says how many were not. */
typedef struct cop_bootstrap {
    double mean, low, high; /* NaN: no value */
    uint32_t used, replicates;
} cop_bootstrap;
cop_status cop_bootstrap_mean(const double *value, uint32_t n, uint32_t replicates, double level,
                              uint64_t seed, cop_bootstrap *out);

/* front[i]: no other point is at least as good in both and better in one; a point with a NaN is on
 * no front and beats nobody. Less cost is better, more gain is better. */
void cop_pareto_front(const double *cost, const double *gain, uint32_t n, bool *front);
