/* Prune rules over the samples of one problem and over the paths of a block: budget, first
 * finisher, confidence, join policies.
 *
 * Where a dialect forks, the rules act on paths: one whose confidence falls, or that runs when the
 * budget is spent, is cancelled, its block joins what is left, and no further fork is taken once
 * the budget is spent. Where it does not, they act on samples.
 *
 * Confidence is DeepConf's (Fu et al. 2025, arXiv 2508.15260, sections 2.2 and 3): token confidence
 * =
 * -(1/k) sum of log p over the top k = 20 tokens; group confidence = its mean over a sliding
 * window; a sample is stopped when a full window's mean falls under the threshold, which is the
 * percentile 100 - keep of the warm-up samples' lowest group confidence. Their preset is a window
 * of 2048 and 16 warm-up samples; any other window is data, not their preset. A sample shorter than
 * the window has its whole mean as its lowest group confidence.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"

enum { COP_DEEPCONF_WINDOW = 2048 };

typedef struct cop_prune_options {
    uint64_t budget_tokens; /* generated tokens of one problem, all its branches; 0: none */
    bool first_finisher;    /* the first sample that ends by itself cancels the others */
    uint32_t window;        /* confidence window in tokens; 0: the rule is off */
    double threshold;       /* stop below it; -INFINITY only observes */
} cop_prune_options;

/* When a block joins, and what becomes of the paths that had not ended by then. */
typedef struct cop_join_policy {
    uint32_t quorum; /* so many finished paths cancel the rest of their block; 0: all are awaited */
    bool success_only;        /* only a path that said the dialect's `success` counts as finished */
    uint32_t deadline_tokens; /* a path that has generated so many is cancelled; 0: none */
    bool keep_partial; /* a cancelled path's text stays, closed by its tag; else it is dropped */
} cop_join_policy;

double cop_token_confidence(const cop_sample *sample);

/* One sample's sliding window. `ring` holds `window` doubles, the caller's. */
typedef struct cop_confidence {
    double *ring;
    uint32_t window;
    uint64_t n;
    double sum;
    double lowest; /* group confidence: lowest full window so far; +INFINITY before the first */
} cop_confidence;

void cop_confidence_init(cop_confidence *confidence, double *ring, uint32_t window);
void cop_confidence_add(cop_confidence *confidence, double token_confidence);
double cop_confidence_lowest(
    const cop_confidence *confidence); /* whole mean if never full; NaN: no token */

/* The percentile 100 - keep_percent, linearly interpolated, of n lowest group confidences (sorted
 * in place). n > 0, 0 < keep_percent <= 100. */
double cop_confidence_threshold(double *lowest, uint32_t n, double keep_percent);
