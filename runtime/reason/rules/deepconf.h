/* DeepConf (Fu et al. 2025, arXiv 2508.15260; facebookresearch/deepconf@675529d, deepconf/utils.py
 * "U", wrapper.py "W", processors.py "P"), online and offline.
 *
 * Two confidences of a token, which differ, as in the original:
 *   live    -(sum of the 20 largest log-probabilities) / 20, not rounded (P compute_conf)
 *   logged  -(mean of those 20, and of the sampled token's where it is not among them, so of 21),
 *           rounded to 3 decimals (U compute_confidence)
 * and two window means over `window` tokens (2048):
 *   live    a running sum, one value out, one in; tested once the window is full: a mean strictly
 *           under the threshold ends the branch at this very step (P __call__)
 *   logged  every full window's mean, rounded to 3 decimals; the lowest is the branch's group
 *           confidence. Fewer tokens than a window: the mean of all, not rounded; none: 0.
 * Online: `warmup` branches run to their end; the threshold is the percentile 100 - keep_percent of
 * their logged group confidences, linearly interpolated as numpy does. The others run under the
 * live rule. One whose logged confidence is under the threshold (strictly) does not vote, whether
 * it was stopped or not; neither does such a warm-up branch.
 * Votes: each voter's logged group confidence is its weight in the weighted vote; but the original
 * then overwrites its answer with the plain majority (W 148-159). `majority` is therefore the
 * original's default and `weighted` the paper's.
 * Offline: every branch runs to its end; the vote is one of seven (deepconf_votes below).
 * The paper's consensus stop (0.95) is not in the repository: `consensus` > 0 turns it on, with the
 * logged confidences as weights, after each end.
 *
 * Rounding is numpy's: rint(x * 1000) / 1000; sums of 8 or more run in numpy's order of eight
 * partial sums, so that the logged values are the original's bit for bit.
 */
#pragma once

#include "reason/rules/rule.h"

enum { COP_DEEPCONF_DEFAULT_WINDOW = 2048, COP_DEEPCONF_DEFAULT_WARMUP = 16 };

typedef enum cop_deepconf_mode { COP_DEEPCONF_ONLINE, COP_DEEPCONF_OFFLINE } cop_deepconf_mode;

/* X(name, word in configs) */
#define COP_DEEPCONF_VOTES(X)                                                                      \
    X(MAJORITY, "majority")                                                                        \
    X(WEIGHTED, "weighted") /* by the logged group confidence, whose windows are rounded */        \
    X(MEAN, "mean")                                                                                \
    X(TAIL, "tail")                                                                                \
    X(BOTTOM_WINDOW, "bottom_window")                                                              \
    X(MIN_WINDOW, "min_window")                                                                    \
    X(TOP10_TAIL, "top10_tail_filtered")                                                           \
    X(TOP10_BOTTOM_WINDOW, "top10_bottom_window_filtered")

typedef enum cop_deepconf_vote {
#define COP_DEEPCONF_VOTE_ENUM(name, word) COP_DEEPCONF_VOTE_##name,
    COP_DEEPCONF_VOTES(COP_DEEPCONF_VOTE_ENUM)
#undef COP_DEEPCONF_VOTE_ENUM
} cop_deepconf_vote;

typedef struct cop_deepconf_options {
    cop_deepconf_mode mode;
    uint32_t window;
    uint32_t warmup;     /* ONLINE; the first branches opened */
    uint32_t budget;     /* branches in all; 0: as many as are opened */
    double keep_percent; /* ONLINE; 90 is the paper's "high", 10 its "low" */
    double consensus;    /* share of the votes' weight that stops all; 0: off */
    cop_deepconf_vote vote;
} cop_deepconf_options;

/* Votes that look at a whole trace keep every token's confidence: 4 bytes a token. */
cop_status cop_deepconf_create(const cop_rule_limits *limits, const cop_deepconf_options *options,
                               cop_rule **out);
double cop_deepconf_threshold(const cop_rule *rule); /* NaN before warm-up is over */

/* ---- the arithmetic, for tests and for whoever scores recorded traces ---- */

double cop_deepconf_round3(double value);
/* numpy's sum: pairwise, in eight partial sums below 128 values. */
double cop_deepconf_sum(const double *values, size_t n);
double cop_deepconf_live(const float *top_logprob, uint32_t n_top);
double cop_deepconf_logged(const cop_rule_token *token);
/* numpy.percentile(values, q), linear; sorts in place. n > 0. */
double cop_deepconf_percentile(double *values, uint32_t n, double q);
/* MEAN, TAIL, BOTTOM_WINDOW or MIN_WINDOW of a trace of logged confidences in thousandths; scratch
 * holds n doubles. */
double cop_deepconf_trace_score(cop_deepconf_vote kind, const int32_t *thousandths, uint32_t n,
                                uint32_t window, double *scratch);
