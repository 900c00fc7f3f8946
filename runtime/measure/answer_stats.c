#include "measure/answer_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

static const uint64_t bootstrap_stream = 0x626f6f7473747261, majority_stream = 0x6d616a6f72697479;

double cop_pass_at_k(uint32_t n, uint32_t c, uint32_t k, cop_few few) {
    if (n == 0 || k == 0 || c > n)
        return NAN;
    if (n < k)
        return few == COP_FEW_NPR ? c == n : NAN;
    if (n - c < k)
        return 1;
    /* C(n - c, k) / C(n, k), as a product of ratios that stays inside 0 .. 1. */
    double none = 1;
    for (uint32_t i = 0; i < k; i++)
        none *= (double)(n - c - i) / (double)(n - i);
    return 1 - none;
}

/* ---- votes ---- */

const char *cop_tie_name(cop_tie tie) {
    static const char *const names[] = {"first", "share", "none"};
    return names[tie];
}

/* Votes stand at the first sample of each class: no table of classes is needed, and the first of
 * equals is the one that was said first. */
static uint32_t first_of(const cop_vote_sample *samples, uint32_t i) {
    uint32_t k = 0;
    while (samples[k].answer != samples[i].answer || !(samples[k].weight > 0))
        k++;
    return k;
}

double cop_majority(const cop_vote_sample *samples, uint32_t n, cop_tie tie, double *votes,
                    uint32_t *winner) {
    uint32_t best = n, equals = 0, right = 0;
    for (uint32_t i = 0; i < n; i++)
        votes[i] = 0;
    for (uint32_t i = 0; i < n; i++)
        if (samples[i].answer != COP_CLASS_NONE && samples[i].weight > 0)
            votes[first_of(samples, i)] += samples[i].weight;
    for (uint32_t i = 0; i < n; i++)
        if (votes[i] > 0 && (best == n || votes[i] > votes[best]))
            best = i;
    for (uint32_t i = 0; best < n && i < n; i++) {
        bool equal = votes[i] == votes[best];
        equals += equal;
        right += equal && samples[i].right;
    }
    bool nobody = best == n || (tie == COP_TIE_NONE && equals > 1);
    if (winner)
        *winner = nobody ? COP_CLASS_NONE : samples[best].answer;
    if (nobody)
        return 0;
    return tie == COP_TIE_SHARE ? (double)right / equals : samples[best].right;
}

/* C(n, k), or a number above `limit` when it is larger than that. */
static uint64_t subsets_of(uint32_t n, uint32_t k, uint64_t limit) {
    uint64_t count = 1;
    k = k > n - k ? n - k : k;
    for (uint32_t i = 1; i <= k; i++) {
        count = count * (n - k + i) / i; /* whole at every step */
        if (count > limit)
            return limit + 1;
    }
    return count;
}

/* The next set of k of 0 .. n - 1 in the order of its numbers; false behind the last. */
static bool next_subset(uint32_t *at, uint32_t n, uint32_t k) {
    uint32_t i = k;
    while (i > 0 && at[i - 1] == n - k + i - 1)
        i--;
    if (i == 0)
        return false;
    at[i - 1]++;
    for (; i < k; i++)
        at[i] = at[i - 1] + 1;
    return true;
}

/* A set of k, each as likely as any other, in order (Knuth's selection sampling). */
static void draw_subset(uint32_t *at, uint32_t n, uint32_t k, cop_rng_key key) {
    uint32_t taken = 0;
    for (uint32_t i = 0; i < n && taken < k; i++)
        if (cop_rng_below(key, i, n - i) < k - taken)
            at[taken++] = i;
}

typedef struct subset_scratch {
    uint32_t *at;
    cop_vote_sample *chosen;
    double *votes;
} subset_scratch;

static double vote_of(const cop_vote_sample *samples, uint32_t k, cop_tie tie,
                      const subset_scratch *s) {
    for (uint32_t i = 0; i < k; i++)
        s->chosen[i] = samples[s->at[i]];
    return cop_majority(s->chosen, k, tie, s->votes, NULL);
}

static void vote_subsets(const cop_vote_sample *samples, uint32_t n, uint32_t k, cop_tie tie,
                         cop_rng_key key, const subset_scratch *s, cop_majority_at_k *out) {
    uint64_t all = subsets_of(n, k, COP_MAJORITY_EXACT_MAX);
    double sum = 0;
    out->exact = all <= COP_MAJORITY_EXACT_MAX;
    out->subsets = out->exact ? (uint32_t)all : COP_MAJORITY_DRAWS;
    for (uint32_t i = 0; i < k; i++)
        s->at[i] = i;
    for (uint32_t i = 0; i < out->subsets; i++) {
        key.position = i;
        if (!out->exact)
            draw_subset(s->at, n, k, key);
        sum += vote_of(samples, k, tie, s);
        if (out->exact)
            next_subset(s->at, n, k);
    }
    out->share = sum / out->subsets;
}

cop_status cop_majority_at_k_of(const cop_vote_sample *samples, uint32_t n, uint32_t k, cop_tie tie,
                                uint64_t seed, uint64_t stream, cop_majority_at_k *out) {
    *out = (cop_majority_at_k){.share = NAN};
    if (n > COP_MAJORITY_SAMPLES_MAX)
        return COP_FAIL(COP_ERR_NO_ROOM, "%u samples of one problem vote; at most %d may", n,
                        COP_MAJORITY_SAMPLES_MAX);
    if (k == 0 || n < k)
        return COP_OK;
    subset_scratch s = {cop_calloc(k, sizeof *s.at), cop_calloc(k, sizeof *s.chosen),
                        cop_calloc(k, sizeof *s.votes)};
    cop_rng_key key = {seed, cop_rng_fold(majority_stream, stream), 0};
    bool whole = s.at && s.chosen && s.votes;
    if (whole)
        vote_subsets(samples, n, k, tie, key, &s, out);
    cop_free(s.at);
    cop_free(s.chosen);
    cop_free(s.votes);
    return whole ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a vote of %u", k);
}

/* ---- intervals ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, uint32_t n, double share) {
    double at = share * (n - 1);
    uint32_t below = (uint32_t)at;
    double next = below + 1 < n ? sorted[below + 1] : sorted[below];
    return sorted[below] + (at - below) * (next - sorted[below]);
}

cop_status cop_bootstrap_mean(const double *value, uint32_t n, uint32_t replicates, double level,
                              uint64_t seed, cop_bootstrap *out) {
    *out = (cop_bootstrap){NAN, NAN, NAN, 0, replicates};
    double *known = cop_calloc(n ? n : 1, sizeof *known), sum = 0;
    double *means = cop_calloc(replicates ? replicates : 1, sizeof *means);
    if (!known || !means) {
        cop_free(known);
        cop_free(means);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u replicates of %u problems", replicates,
                        n);
    }
    for (uint32_t i = 0; i < n; i++)
        if (isfinite(value[i]))
            sum += known[out->used++] = value[i];
    if (out->used > 0)
        out->mean = sum / out->used;
    for (uint32_t r = 0; out->used > 0 && r < replicates; r++) {
        for (uint32_t i = 0; i < out->used; i++)
            means[r] +=
                known[cop_rng_below((cop_rng_key){seed, bootstrap_stream, r}, i, out->used)];
        means[r] /= out->used;
    }
    if (out->used > 0 && replicates > 0) {
        qsort(means, replicates, sizeof *means, by_size);
        out->low = percentile(means, replicates, (1 - level) / 2);
        out->high = percentile(means, replicates, (1 + level) / 2);
    }
    cop_free(known);
    cop_free(means);
    return COP_OK;
}

void cop_pareto_front(const double *cost, const double *gain, uint32_t n, bool *front) {
    for (uint32_t i = 0; i < n; i++) {
        front[i] = isfinite(cost[i]) && isfinite(gain[i]);
        for (uint32_t k = 0; k < n && front[i]; k++) {
            bool as_good = cost[k] <= cost[i] && gain[k] >= gain[i];
            front[i] = !(as_good && (cost[k] < cost[i] || gain[k] > gain[i]));
        }
    }
}
